"""A client of a Kubernetes API server. It returns plain dictionaries and raises the errors of
`controlplane.errors`.

It uses the connections and the authentication of the official client, which only this module and
`configuration` import. The official client's models and its Watch are not used: its models cost fifty times
as much as dictionaries, and its Watch hides connection failures that the caller must handle.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, Self
from urllib.parse import urlencode

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    WSServerHandshakeError,
)
from kubernetes.aio.client import ApiClient, Configuration

from controlplane.errors import RefusedError, SettingsError, UnreachableError
from controlplane.kubernetes.configuration import UNREADABLE, read_configuration

Document = dict[str, Any]

_JSON: Final = "application/json"
# meta.k8s.io/v1: only the metadata of the objects. An API server that does not support this sends whole
# objects.
_METADATA: Final = f"{_JSON};as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{_JSON}"
_METADATA_LIST: Final = f"{_JSON};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{_JSON}"

_NO_QUERY: Final[Mapping[str, str]] = MappingProxyType({})
_CONNECT_TIMEOUT_S: Final = 10.0
_ANSWER_TIMEOUT_S: Final = 60.0
# The API server sends a bookmark about once a minute. A watch that receives no data for this time is closed.
_SILENCE_S: Final = 180.0
# etcd limits an object to 1.5 MiB; its JSON is somewhat larger.
_LONGEST_EVENT_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    document: Document | Sequence[Document] | None = None
    content_type: str = "application/json"
    accept: str = _JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """``date`` is the header of that name (RFC 9110 section 6.6.1), or empty."""

    data: bytes
    date: str


class Reader(Protocol):
    """Reads from an API server. ``path`` begins with ``/api/`` or ``/apis/``.

    Both methods raise `UnreachableError` and `RefusedError`.
    """

    async def get(self, path: str, query: Mapping[str, str] = ...) -> Document: ...

    def stream(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[Document, None]:
        """Yields documents as they arrive, until the API server completes the response."""
        ...


class Writer(Protocol):
    """Writes to an API server. Each method returns the object as it is after the write.

    All methods raise `UnreachableError`, after which it is unknown whether the write was done, and
    `RefusedError`.
    """

    async def create(self, path: str, document: Document) -> Document:
        """``path`` is the path of the collection."""
        ...

    async def replace(self, path: str, document: Document) -> Document:
        """The API server responds with 409 when the object no longer has the document's
        ``resourceVersion``."""
        ...

    async def merge(self, path: str, document: Document) -> Document:
        """Changes the fields that the document contains, and removes those that are null (RFC 7386)."""
        ...


class KubernetesApi(Reader, Writer, Protocol):
    def metadata_only(self) -> Reader: ...


class ClientApi:
    """A `KubernetesApi` that uses the official client."""

    def __init__(self, configuration: Configuration) -> None:
        configuration.connection_pool_maxsize = 0  # no limit: each watched kind keeps a connection open
        self._client: Final = ApiClient(configuration)

    @classmethod
    async def connect(cls, kubeconfig: Path | None, context: str | None = None) -> Self:
        """Returns a client for a context of a kubeconfig, by default its current one; or, if ``kubeconfig``
        is None, for the cluster that this pod runs in. Sends no request yet.

        Raises `SettingsError` when the configuration is missing or invalid.
        """
        try:
            return cls(await read_configuration(kubeconfig, context))
        except UNREADABLE as error:
            where = "in-cluster configuration" if kubeconfig is None else f"kubeconfig {kubeconfig}"
            raise SettingsError(f"the {where} cannot be used: {error}") from error

    async def close(self) -> None:
        await self._client.close()

    async def get(self, path: str, query: Mapping[str, str] = _NO_QUERY, *, accept: str = _JSON) -> Document:
        return await self._ask(_Request(method="GET", path=path, query=query, accept=accept))

    def metadata_only(self) -> Reader:
        """A reader of collections that omits specs and statuses (PartialObjectMetadata)."""
        return _MetadataReader(self)

    async def create(self, path: str, document: Document, query: Mapping[str, str] = _NO_QUERY) -> Document:
        return await self._ask(_Request(method="POST", path=path, query=query, document=document))

    async def replace(self, path: str, document: Document) -> Document:
        return await self._ask(_Request(method="PUT", path=path, document=document))

    async def apply(self, path: str, document: Document, query: Mapping[str, str]) -> Document:
        """Creates the object, or changes the fields that the document contains (server-side apply). ``query``
        names the ``fieldManager``."""
        apply_patch = "application/apply-patch+yaml"  # JSON is YAML
        return await self._ask(
            _Request(method="PATCH", path=path, query=query, document=document, content_type=apply_patch)
        )

    async def delete(self, path: str, options: Document) -> Document:
        """``options`` are the fields of a ``DeleteOptions``. Returns the object, or a ``Status``."""
        return await self._ask(_Request(method="DELETE", path=path, document=options))

    async def fetch(self, path: str) -> Fetched:
        """Reads a document that is no Kubernetes object, such as `/version`."""
        limits = ClientTimeout(total=_ANSWER_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S)
        async with self._answer(_Request(method="GET", path=path), limits) as response:
            return Fetched(data=await response.read(), date=response.headers.get("Date", ""))

    @asynccontextmanager
    async def websocket(
        self, path: str, query: Mapping[str, str], protocol: str
    ) -> AsyncIterator[ClientWebSocketResponse]:
        """A WebSocket with a subprotocol, such as that of `port-forward`. Raises `UnreachableError`, also for
        a connection that breaks in the block, and `RefusedError`."""
        host = self._client.configuration.host
        rest = self._client.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()  # noqa: SLF001  # as its own WsApiClient does
        try:
            async with rest.pool_manager.ws_connect(
                f"{host}{path}?{urlencode(query)}",
                headers=await self._authorization(),
                protocols=(protocol,),
                timeout=ClientWSTimeout(ws_receive=_ANSWER_TIMEOUT_S, ws_close=_CONNECT_TIMEOUT_S),
                proxy=rest.proxy,
            ) as socket:
                yield socket
        except WSServerHandshakeError as error:
            raise RefusedError(error.status, error.message) from error
        except (ClientError, OSError) as error:
            raise UnreachableError(f"{host}: {str(error) or type(error).__name__}") from error

    async def merge(self, path: str, document: Document) -> Document:
        merge_patch = "application/merge-patch+json"
        return await self._ask(
            _Request(method="PATCH", path=path, document=document, content_type=merge_patch)
        )

    async def json_patch(self, path: str, operations: Sequence[Document]) -> Document:
        """Applies a JSON patch (RFC 6902). The API server responds with 422 when an operation fails."""
        json_patch = "application/json-patch+json"
        return await self._ask(
            _Request(method="PATCH", path=path, document=operations, content_type=json_patch)
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
        if "kind" not in document:  # it may come from a proxy or a load balancer
            raise UnreachableError(f"the response is not a Kubernetes object: {data[:80]!r}")
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
        """Reads the token for every request: the kubelet replaces a pod's token within the hour."""
        try:
            settings = await self._client.configuration.auth_settings()
        except UNREADABLE as error:
            raise UnreachableError(f"cannot read the token: {error}") from error
        token = settings.get("BearerToken")
        return {} if token is None or not token["value"] else {"Authorization": token["value"].strip()}


class _MetadataReader:
    """A `Reader` of the metadata of collections."""

    def __init__(self, api: ClientApi) -> None:
        self._api: Final = api

    async def get(self, path: str, query: Mapping[str, str] = _NO_QUERY) -> Document:
        return await self._api.get(path, query, accept=_METADATA_LIST)

    def stream(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[Document, None]:
        return self._api.stream(path, query, accept=_METADATA)


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yields complete lines. A line without its end may be half of an event, and is not yielded."""
    pending = bytearray()
    async for chunk in chunks:
        pending += chunk
        if b"\n" in chunk:
            *lines, rest = pending.split(b"\n")
            pending = rest
            for line in lines:
                yield bytes(line)
        if len(pending) > _LONGEST_EVENT_BYTES:
            raise UnreachableError(f"the watch sent an event of more than {_LONGEST_EVENT_BYTES} bytes")


def _decode(data: bytes) -> Document:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreachableError(f"the response is not JSON: {data[:80]!r}") from error
    if not isinstance(document, dict):
        raise UnreachableError(f"the response is not a JSON object: {data[:80]!r}")
    return document


def _reason(data: bytes) -> str:
    """Returns the message of an error response. An API server sends a `Status`; a proxy in front of it may
    send any text."""
    try:
        return str(_decode(data).get("message", ""))
    except UnreachableError:
        return data[:200].decode(errors="replace").strip()
