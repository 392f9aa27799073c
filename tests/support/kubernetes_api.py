"""Kubernetes' API in raw dictionaries, over the official client's connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

Resource = dict[str, Any]
Found = TypeVar("Found")

DEADLINE_S = 30.0
REQUEST_TIMEOUT_S = 30.0
POLL_EVERY_S = 0.05
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"


class KubernetesError(Exception):
    """The API server refused; the message is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class KubernetesApi:
    """Speaks to one API server as one user. Paths are the API's own, from `/api` or `/apis` on."""

    def __init__(self, client: ApiClient, token: str | None) -> None:
        self._client = client
        self._authorization = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def get(self, path: str) -> Resource:
        return await self._request("GET", path)

    async def create(self, path: str, body: Resource) -> Resource:
        return await self._request("POST", path, body)

    async def patch(self, path: str, body: Resource, kind: str = MERGE_PATCH) -> Resource:
        """Merges the body into the object at the path: as RFC 7386 has it, or as the kind of patch says."""
        return await self._request("PATCH", path, body, kind)

    async def apply(self, path: str, body: Resource) -> Resource:
        """Creates the object or changes it to what the body says: server-side apply, that wins conflicts."""
        return await self._request("PATCH", f"{path}?fieldManager=tests&force=true", body, APPLY_PATCH)

    async def delete(self, path: str, body: Resource | None = None) -> Resource:
        return await self._request("DELETE", path, body)

    async def ask(self, path: str) -> str:
        """The text at a path that holds no resource, such as `/readyz`."""
        return await self._send("GET", path, None, "application/json")

    async def watch(self, path: str, resource_version: str) -> AsyncGenerator[Resource, None]:
        """The events after the version. It ends when the API server ends it. The path may have a query."""
        query = f"{'&' if '?' in path else '?'}watch=true&resourceVersion={resource_version}"
        url = self._client.configuration.host + path + query
        answer = await self._client.call_api(
            "GET", url, dict(self._authorization), _request_timeout=REQUEST_TIMEOUT_S
        )
        async with answer.response as response:
            if response.status >= 400:
                raise KubernetesError(response.status, await response.text())
            async for line in response.content:
                yield json.loads(line)

    async def _request(
        self, method: str, path: str, body: Resource | None = None, content_type: str = "application/json"
    ) -> Resource:
        resource: Resource = json.loads(await self._send(method, path, body, content_type))
        return resource

    async def _send(self, method: str, path: str, body: Resource | None, content_type: str) -> str:
        """A 429 is asked again: nothing was done, and the API server says that it is about to be able to."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                status, text = await self._exchange(method, path, body, content_type)
                if status != 429:
                    break
                await asyncio.sleep(POLL_EVERY_S)
        if status >= 400:
            raise KubernetesError(status, text)
        return text

    async def _exchange(
        self, method: str, path: str, body: Resource | None, content_type: str
    ) -> tuple[int, str]:
        answer = await self._client.call_api(
            method,
            self._client.configuration.host + path,
            {**self._authorization, "Content-Type": content_type},
            body,
            _request_timeout=REQUEST_TIMEOUT_S,
        )
        return answer.status, (await answer.read()).decode()


@asynccontextmanager
async def kubernetes_api(kubeconfig: Path, *, token: str | None = None) -> AsyncIterator[KubernetesApi]:
    """As the kubeconfig's user, or as the token's at the kubeconfig's API server."""
    configuration = Configuration()
    await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    if token is not None:
        configuration.cert_file = configuration.key_file = None  # it would count before the token
    async with ApiClient(configuration) as client:
        yield KubernetesApi(client, token)


async def eventually(
    look: Callable[[], Awaitable[Found | None]], what: str, *, deadline_s: float = DEADLINE_S
) -> Found:
    """What `look` finds, as soon as it finds something: neither None, nor anything empty, nor a 404."""
    deadline = asyncio.timeout(deadline_s)
    last: object = None
    try:
        async with deadline:
            while True:
                try:
                    last = found = await look()
                except KubernetesError as error:
                    if error.status != 404:
                        raise
                    last, found = error, None
                if found:
                    return found
                await asyncio.sleep(POLL_EVERY_S)
    except TimeoutError:
        if deadline.expired():
            raise AssertionError(f"{what}: not within {deadline_s:g} s; last seen: {last}") from None
        raise
