"""``envoy.filters.http.grpc_web``: lets clients that speak gRPC-Web call gRPC servers.

Sources: gRPC's ``PROTOCOL-WEB.md``, and Envoy's filter of this name. Calls with other content types pass
unchanged. A reply that is not gRPC, also the proxy's own, becomes a status and a message of gRPC.
"""

from __future__ import annotations

from typing import Final

from sidecar.config.http_filters import GrpcWebConfig
from sidecar.errors import RequestError
from sidecar.filters.chain import FilterContext, FilterKind
from sidecar.filters.grpc_web_bodies import DecodedBody, EncodedBody, decode_text, encode_text
from sidecar.grpc_status import (
    encode_grpc_message,
    grpc_status_of_http,
    is_grpc_response,
)
from sidecar.http.body import EMPTY, Body
from sidecar.http.headers import Headers, get_header
from sidecar.http.local_reply import error_reply
from sidecar.http.message import Request, Response, Service
from sidecar.observability.grpc_call import called_method
from sidecar.observability.stream_info import fail

_TEXT: Final = frozenset((b"application/grpc-web-text", b"application/grpc-web-text+proto"))
_BINARY: Final = frozenset((b"application/grpc-web", b"application/grpc-web+proto"))
_WEB: Final = _TEXT | _BINARY
_REPLACED: Final = frozenset((b"content-length", b"content-type", b"te"))
# Of the content of a reply that is not gRPC; the rest of a longer one is left out.
_LONGEST_MESSAGE_BYTES: Final = 16384


class GrpcWebFilter:
    def __init__(self, config: GrpcWebConfig, context: FilterContext) -> None:
        self._stats = context.stats

    async def __call__(self, request: Request, proceed: Service) -> Response:
        content_type = get_header(request.headers, b"content-type")
        if content_type not in _WEB:
            return await proceed(request)
        as_text = get_header(request.headers, b"accept") in _TEXT
        try:
            _make_grpc(request, is_text=content_type in _TEXT)
            self._count(request)
            response = await proceed(request)
        except RequestError as error:
            if not error.status:  # the client has left
                raise
            fail(request.info, error)
            response = error_reply(request, error)
            if request.route is not None:
                request.route.finish(response.headers)
        await _make_grpc_web(request, response, as_text=as_text)
        return response

    def _count(self, request: Request) -> None:
        info, called = request.info, called_method(request.path)
        if info.grpc is not None and info.cluster and called is not None:
            info.grpc.web_stats = self._stats.grpc(info.cluster, ".".join(called), scope="grpc-web")

    def close(self) -> None:
        pass


def _make_grpc(request: Request, *, is_text: bool) -> None:
    """Raises `GrpcWebEncodingError` for a text that is no base64."""
    headers = [field for field in request.headers if field[0] not in _REPLACED]
    headers += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    if get_header(headers, b"grpc-accept-encoding") is None:
        headers.append((b"grpc-accept-encoding", b"identity"))
    request.headers = headers
    if is_text:
        whole = request.body.whole
        request.body = DecodedBody(request.body) if whole is None else Body(decode_text(whole))
    request.begin_grpc_call(over_web=True)


async def _make_grpc_web(request: Request, response: Response, *, as_text: bool) -> None:
    headers = response.headers
    subtype = b"-text" if as_text else b""
    response.headers = [field for field in headers if field[0] not in (b"content-length", b"content-type")]
    response.headers.append((b"content-type", b"application/grpc-web%b+proto" % subtype))
    body = response.body
    if body.whole == b"":  # a head alone: it has the status, unless the server speaks no gRPC
        return
    if not (is_grpc_response(response.status, headers) or _is_grpc_web_response(response.status, headers)):
        await _explain(response)
        if request.info.grpc is not None:
            request.info.grpc.translated = True
    elif body.whole is None:
        response.body = EncodedBody(body, request.info.grpc, as_text=as_text)
    elif as_text:
        response.body = Body(encode_text(body.whole))


def _is_grpc_web_response(status: int, headers: Headers) -> bool:
    content_type = get_header(headers, b"content-type") or b""
    return status == 200 and content_type.partition(b";")[0].rstrip().lower() in _BINARY


async def _explain(response: Response) -> None:
    """The content of a reply that is not gRPC becomes the message of the call."""
    text = await _read_at_most(response.body, _LONGEST_MESSAGE_BYTES)
    response.body.close()
    response.body = EMPTY
    status = grpc_status_of_http(response.status)
    response.headers = [
        field for field in response.headers if field[0] not in (b"grpc-status", b"grpc-message")
    ]
    response.headers += [
        (b"grpc-message", encode_grpc_message(text)),
        (b"grpc-status", b"%d" % status),
        (b"content-length", b"0"),
    ]


async def _read_at_most(body: Body, limit_bytes: int) -> bytes:
    """Reads until the end, so that the connection can be used again, and keeps the first bytes."""
    pieces: list[bytes] = []
    size = 0
    while piece := await body.read():
        if size < limit_bytes:
            pieces.append(piece[: limit_bytes - size])
        size += len(piece)
    return b"".join(pieces)


KIND = FilterKind(config=GrpcWebConfig, make=GrpcWebFilter)
