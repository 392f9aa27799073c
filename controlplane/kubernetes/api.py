"""A Kubernetes API server over the official client's connections: raw dictionaries, and errors of our tree.

Only this module and `configuration` know the client. Its models and its Watch are not used: they cost fifty
times what a dictionary does, and hide what is to be done about a broken connection.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, Self
from urllib.parse import urlencode

from aiohttp import ClientError, ClientResponse, ClientTimeout
from kubernetes.aio.client import ApiClient, Configuration

from controlplane.errors import RefusedError, SettingsError, UnreachableError
from controlplane.kubernetes.configuration import UNREADABLE, read_configuration

Document = dict[str, Any]

_JSON: Final = "application/json"
# meta.k8s.io/v1: what an API server has of the objects beside their specs and statuses. One that cannot tell
# that alone would send the whole.
_METADATA: Final = f"{_JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{_JSON}"
_METADATA_LIST: Final = f"{_JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{_JSON}"

_NO_QUERY: Final[Mapping[str, str]] = MappingProxyType({})
_CONNECT_TIMEOUT_S: Final = 10.0
_ANSWER_TIMEOUT_S: Final = 60.0
# The API server sends a bookmark about once a minute: a watch that is silent for longer is cut off.
_SILENCE_S: Final = 180.0
# An object has at most 1.5 MiB in etcd, and somewhat more as JSON.
_LONGEST_EVENT_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    document: Document | None = None
    content_type: str = "application/json"
    accept: str = _JSON


class Reader(Protocol):
    """What is asked of an API server to follow it. ``path`` begins with ``/api/`` or ``/apis/``.

    Both raise `UnreachableError` and `RefusedError`.
    """

    async def get(self, path: str, query: Mapping[str, str] = ...) -> Document: ...

    def stream(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[Document, None]:
        """Documents as they come, until the API server ends the answer in good order."""
        ...


class Writer(Protocol):
    """What is asked of an API server to change what it has. ``document`` is answered as it became.

    All raise `UnreachableError`, after which nobody knows whether it was done, and `RefusedError`.
    """

    async def create(self, path: str, document: Document) -> Document:
        """``path`` is the collection's."""
        ...

    async def replace(self, path: str, document: Document) -> Document:
        """Refused with 409 where the object is no longer of the document's ``resourceVersion``."""
        ...

    async def merge(self, path: str, document: Document) -> Document:
        """Changes what the document names, and removes what it gives as null (RFC 7386)."""
        ...


class KubernetesApi(Reader, Writer, Protocol):
    def metadata_only(self) -> Reader: ...


class ClientApi:
    """A `KubernetesApi` as the client was configured."""

    def __init__(self, configuration: Configuration) -> None:
        configuration.connection_pool_maxsize = 0  # each kind that is followed keeps a connection
        self._client: Final = ApiClient(configuration)

    @classmethod
    async def connect(cls, kubeconfig: Path | None) -> Self:
        """By a kubeconfig's current context, or as a pod of the cluster. Nothing is sent yet.

        Raises `SettingsError` where the configuration cannot be used.
        """
        try:
            return cls(await read_configuration(kubeconfig))
        except UNREADABLE as error:
            where = "in-cluster configuration" if kubeconfig is None else f"kubeconfig {kubeconfig}"
            raise SettingsError(f"the {where} cannot be used: {error}") from error

    async def close(self) -> None:
        await self._client.close()

    async def get(self, path: str, query: Mapping[str, str] = _NO_QUERY, *, accept: str = _JSON) -> Document:
        return await self._ask(_Request(method="GET", path=path, query=query, accept=accept))

    def metadata_only(self) -> Reader:
        """Collections and their changes without specs and statuses (PartialObjectMetadata)."""
        return _MetadataReader(self)

    async def create(self, path: str, document: Document) -> Document:
        return await self._ask(_Request(method="POST", path=path, document=document))

    async def replace(self, path: str, document: Document) -> Document:
        return await self._ask(_Request(method="PUT", path=path, document=document))

    async def merge(self, path: str, document: Document) -> Document:
        merge_patch = "application/merge-patch+json"
        return await self._ask(
            _Request(method="PATCH", path=path, document=document, content_type=merge_patch)
        )

    async def stream(
        self, path: str, query: Mapping[str, str], *, accept: str = _JSON
    ) -> AsyncGenerator[Document, None]:
        limits = ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_SILENCE_S)
        request = _Request(method="GET", path=path, query=query, accept=accept)
        async with self._answer(request, limits) as response:
            async for line in _lines(response.content.iter_any()):
                yield _decode(line)

    async def _ask(self, request: _Request) -> Document:
        limits = ClientTimeout(total=_ANSWER_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S)
        async with self._answer(request, limits) as response:
            data = await response.read()
        document = _decode(data)
        if "kind" not in document:  # a proxy's or a load balancer's own, perhaps
            raise UnreachableError(f"sent what is no Kubernetes object: {data[:80]!r}")
        return document

    @asynccontextmanager
    async def _answer(self, request: _Request, limits: ClientTimeout) -> AsyncIterator[ClientResponse]:
        host = self._client.configuration.host
        url = f"{host}{request.path}?{urlencode(request.query)}"
        try:
            headers = {
                "Accept": request.accept,
                "Content-Type": request.content_type,
                **await self._authorization(),
            }
            answer = await self._client.call_api(
                request.method, url, headers, request.document, _request_timeout=limits
            )
            async with answer.response as response:
                if response.status >= 400:
                    raise RefusedError(response.status, _reason(await response.read()))
                yield response
        except (ClientError, OSError) as error:
            raise UnreachableError(f"{host}: {str(error) or type(error).__name__}") from error

    async def _authorization(self) -> dict[str, str]:
        """Asked for every time: the token of a pod is replaced within the hour."""
        try:
            settings = await self._client.configuration.auth_settings()
        except UNREADABLE as error:
            raise UnreachableError(f"the token to show cannot be read: {error}") from error
        token = settings.get("BearerToken")
        return {} if token is None or not token["value"] else {"Authorization": token["value"].strip()}


class _MetadataReader:
    """A `Reader` of collections."""

    def __init__(self, api: ClientApi) -> None:
        self._api: Final = api

    async def get(self, path: str, query: Mapping[str, str] = _NO_QUERY) -> Document:
        return await self._api.get(path, query, accept=_METADATA_LIST)

    def stream(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[Document, None]:
        return self._api.stream(path, query, accept=_METADATA)


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Whole lines: what has no end yet may be half of an event."""
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        if b"\n" in chunk:
            *lines, rest = pending.split(b"\n")
            pending = rest
            for line in lines:
                yield bytes(line)
        if len(pending) > _LONGEST_EVENT_BYTES:
            raise UnreachableError(f"sent an event of more than {_LONGEST_EVENT_BYTES} bytes")


def _decode(data: bytes) -> Document:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreachableError(f"sent what is no JSON: {data[:80]!r}") from error
    if not isinstance(document, dict):
        raise UnreachableError(f"sent what is no JSON object: {data[:80]!r}")
    return document


def _reason(data: bytes) -> str:
    """An API server answers with a `Status`; whatever stands before it with a text of its own."""
    try:
        return str(_decode(data).get("message", ""))
    except UnreachableError:
        return data[:200].decode(errors="replace").strip()
