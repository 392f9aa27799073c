"""The response of a call: its messages and its status. No I/O.

Source: ``doc/PROTOCOL-HTTP2.md`` and ``doc/http-grpc-status-mapping.md`` of gRPC.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

from sidecar.grpc.errors import GrpcError
from sidecar.grpc_status import GrpcStatus
from sidecar.http.h2.error_codes import ErrorCode
from sidecar.http.headers import Headers

_PREFIX_BYTES: Final = 5
_MAX_DETAILS: Final = 4096
_OF_HTTP: Final = {
    400: GrpcStatus.INTERNAL,
    401: GrpcStatus.UNAUTHENTICATED,
    403: GrpcStatus.PERMISSION_DENIED,
    404: GrpcStatus.UNIMPLEMENTED,
    429: GrpcStatus.UNAVAILABLE,
    502: GrpcStatus.UNAVAILABLE,
    503: GrpcStatus.UNAVAILABLE,
    504: GrpcStatus.UNAVAILABLE,
}
_OF_RESET: Final[dict[int, GrpcStatus]] = {
    ErrorCode.REFUSED_STREAM: GrpcStatus.UNAVAILABLE,
    ErrorCode.CANCEL: GrpcStatus.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: GrpcStatus.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: GrpcStatus.PERMISSION_DENIED,
}


class GrpcResponse:
    """Each method raises `GrpcError` if the response is invalid or has failed."""

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes: Final = max_message_bytes
        self._buffer = bytearray()

    def head(self, status: int, headers: Headers, ended: bool) -> None:
        """``status`` is that of HTTP. A response without messages has its gRPC status here."""
        found = dict(headers)
        content_type = found.get(b"content-type", b"")
        if ended and b"grpc-status" in found:
            self.trailers(headers)
        elif status != 200:
            raise GrpcError(_OF_HTTP.get(status, GrpcStatus.UNKNOWN), f"the HTTP status is {status}")
        elif not content_type.startswith(b"application/grpc"):
            raise GrpcError(GrpcStatus.UNKNOWN, f"the content type is {content_type.decode('latin-1')!r}")
        elif ended:
            self.end()

    def data(self, data: bytes) -> list[bytes]:
        """The messages that these bytes complete."""
        self._buffer += data
        messages = []
        at = 0
        while len(self._buffer) - at >= _PREFIX_BYTES:
            size = int.from_bytes(self._buffer[at + 1 : at + _PREFIX_BYTES], "big")
            if self._buffer[at]:
                raise GrpcError(GrpcStatus.INTERNAL, "a compressed message, which was not asked for")
            if size > self._max_message_bytes:
                raise GrpcError(
                    GrpcStatus.RESOURCE_EXHAUSTED,
                    f"a message of {size} bytes, at most {self._max_message_bytes} are allowed",
                )
            end = at + _PREFIX_BYTES + size
            if len(self._buffer) < end:
                break
            messages.append(bytes(self._buffer[at + _PREFIX_BYTES : end]))
            at = end
        del self._buffer[:at]
        return messages

    def end(self) -> None:
        raise GrpcError(GrpcStatus.INTERNAL, "the response ended without a status")

    def trailers(self, headers: Headers) -> None:
        """Returns if the call succeeded."""
        found = dict(headers)
        code = found.get(b"grpc-status", b"")
        try:
            status = GrpcStatus(int(code))
        except ValueError:
            raise GrpcError(GrpcStatus.UNKNOWN, f"the response ended with the status {code!r}") from None
        if status is not GrpcStatus.OK:
            message = found.get(b"grpc-message", b"")[:_MAX_DETAILS]
            raise GrpcError(status, unquote(message.decode("latin-1"), errors="replace"))
        if self._buffer:
            raise GrpcError(GrpcStatus.INTERNAL, "the last message is cut off")


def frame(message: bytes) -> bytes:
    """A message as it is sent, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def status_of_reset(code: int) -> GrpcStatus:
    """The status of a stream that the server has reset."""
    return _OF_RESET.get(code, GrpcStatus.INTERNAL)
