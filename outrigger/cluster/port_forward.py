"""GET requests to a port of a pod, as through `kubectl port-forward`: they arrive from the pod's loopback.

The API server's proxy of pods would not do: it removes the credentials, and the debug API wants some from
other addresses. The protocol is kubectl's: SPDY in a WebSocket (API servers since 1.31).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSMsgType
from httptools import HttpParserError, HttpResponseParser

from controlplane.errors import RefusedError, UnreachableError
from outrigger.cluster.spdy import Data, Receiver, Sender, SpdyError

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

_PROTOCOL: Final = "SPDY/3.1+portforward.k8s.io"
_ERROR_STREAM: Final = 1
_DATA_STREAM: Final = 3  # a client's streams have odd numbers
_LARGEST_ANSWER_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``date`` is the header of that name, or empty."""

    document: Any
    date: str


async def get_json(api: ClientApi, namespace: str, pod: str, port: int, path: str) -> Answer:
    """Raises `UnreachableError` and `RefusedError`."""
    where = f"pod {namespace}/{pod}, port {port}"
    raw = await _exchange(api, namespace, pod, port, _request(path))
    response = _Response()
    try:
        response.parser.feed_data(raw)
    except HttpParserError as error:
        raise UnreachableError(f"{where}: the response is not HTTP: {error}") from error
    if not response.complete:
        raise UnreachableError(f"{where}: the response is incomplete")
    status = response.parser.get_status_code()
    if status != 200:
        raise RefusedError(status, f"{where}{path}: {response.body[:200].decode(errors='replace')}")
    try:
        return Answer(document=json.loads(response.body), date=response.date)
    except ValueError as error:
        raise UnreachableError(f"{where}{path}: the response is not JSON: {error}") from error


class _Response:
    """Collects the body and the date for its parser."""

    def __init__(self) -> None:
        self.parser: Final = HttpResponseParser(self)
        self.body = bytearray()
        self.complete = False
        self.date = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"date":
            self.date = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("ascii")


async def _exchange(api: ClientApi, namespace: str, pod: str, port: int, request: bytes) -> bytes:
    """The bytes that the port answers, until it closes the connection."""
    sender, receiver, received = Sender(), Receiver(), bytearray()
    headers = {"port": str(port), "requestid": "0"}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
    async with api.websocket(path, {"ports": str(port)}, _PROTOCOL) as socket:
        await socket.send_bytes(
            sender.open(_ERROR_STREAM, {"streamtype": "error", **headers}, ended=True)
            + sender.open(_DATA_STREAM, {"streamtype": "data", **headers})
            + sender.data(_DATA_STREAM, request)
        )
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                continue
            try:
                events = list(receiver.receive(message.data))
            except SpdyError as error:
                raise UnreachableError(f"pod {namespace}/{pod}: {error}") from error
            for event in events:
                if not isinstance(event, Data):
                    await socket.send_bytes(event.answer)
                elif event.stream == _ERROR_STREAM and event.data:
                    reason = event.data.decode(errors="replace")
                    raise UnreachableError(f"pod {namespace}/{pod}: {reason}")
                elif event.stream == _DATA_STREAM:
                    received += event.data
                    if event.ended:
                        return bytes(received)
            if len(received) > _LARGEST_ANSWER_BYTES:
                raise UnreachableError(f"pod {namespace}/{pod}: the response is too large")
    return bytes(received)
