"""Reads the objects that pods refer to, and retries while the API server is unreachable."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import ClientError

from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource

ASK_AGAIN_AFTER_S = 0.5
UNREACHABLE = (ClientError, TimeoutError, ConnectionError)

Answer = TypeVar("Answer")
_LOG = logging.getLogger(__name__)


class MissingError(Exception):
    """A ConfigMap or Secret, or a key of it, that is not there and is not optional."""


class AwayError(Exception):
    """The API server cannot be reached, or (429, 5xx) is not ready yet."""


async def once(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Raises AwayError, and KubernetesError for a refusal that is the API server's own."""
    try:
        return await ask()
    except KubernetesError as error:
        if error.status == 429 or error.status >= 500:
            raise AwayError(str(error)) from error
        raise
    except UNREACHABLE as error:
        raise AwayError(repr(error)) from error


async def patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Asks until the API server answers. Raises KubernetesError."""
    while True:
        try:
            return await once(ask)
        except AwayError as error:
            _LOG.info("the API server is away: %s", error)
        await asyncio.sleep(ASK_AGAIN_AFTER_S)


class PodObjects:
    """The ConfigMaps and Secrets of one namespace, as files' or variables' contents by key. While the API
    server is away they keep their last values, so that a container that restarts does not wait for it."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}"
        self._known: dict[str, Resource] = {}

    async def config_map(self, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """Raises MissingError, and KubernetesError."""
        found = await self._read("configmaps", name, optional)
        text = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        return text | {key: b64decode(value) for key, value in (found.get("binaryData") or {}).items()}

    async def secret(self, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """Raises MissingError, and KubernetesError."""
        found = await self._read("secrets", name, optional)
        return {key: b64decode(value) for key, value in (found.get("data") or {}).items()}

    async def _read(self, kind: str, name: str, optional: bool) -> Resource:
        try:
            return await self._latest(f"{self._path}/{kind}/{name}")
        except KubernetesError as error:
            if error.status != 404:
                raise
            if optional:
                return {}
            raise MissingError(f"{kind.removesuffix('s')} {name!r} not found") from None

    async def _latest(self, path: str) -> Resource:
        try:
            found = await once(lambda: self._api.get(path))
        except AwayError:
            if path in self._known:
                return self._known[path]
            found = await patiently(lambda: self._api.get(path))
        self._known[path] = found
        return found
