"""The headers about earlier hops of a request: ``x-forwarded-*``, ``x-request-id``, ``x-envoy-*``.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers. As in
Envoy's current default, no address is internal: ``x-envoy-*`` controls are removed from every request.
"""

from __future__ import annotations

from ipaddress import ip_address
from random import choice, randbytes
from typing import Final

from sidecar.config.listener import ForwardClientCert, HttpConnectionManager
from sidecar.grpc_status import is_grpc_content_type
from sidecar.http.headers import Headers
from sidecar.http.message import Request
from sidecar.http.tracing import NOT_TRACED, TRACE_HEADERS, set_trace_reason
from sidecar.observability.stream_info import DownstreamConnection

# A client must not steer retries and timeouts.
_CONTROLS = frozenset((
    b"x-envoy-expected-rq-timeout-ms", b"x-envoy-force-trace", b"x-envoy-hedge-on-per-try-timeout",
    b"x-envoy-internal", b"x-envoy-ip-tags", b"x-envoy-max-retries", b"x-envoy-original-url",
    b"x-envoy-retriable-header-names", b"x-envoy-retriable-status-codes", b"x-envoy-retry-grpc-on",
    b"x-envoy-retry-on", b"x-envoy-upstream-alt-stat-name", b"x-envoy-upstream-rq-per-try-timeout-ms",
    b"x-envoy-upstream-rq-timeout-alt-response", b"x-envoy-upstream-rq-timeout-ms",
))  # fmt: skip
# At the edge, a client must not claim an identity either.
_EDGE_CONTROLS = frozenset((
    b"x-envoy-decorator-operation", b"x-envoy-downstream-service-cluster", b"x-envoy-downstream-service-node",
    b"x-envoy-external-address", b"x-envoy-original-path",
))  # fmt: skip

_IDS_AT_ONCE: Final = 128

_FORWARDED_FOR = b"x-forwarded-for"
_FORWARDED_PROTO = b"x-forwarded-proto"
_REQUEST_ID = b"x-request-id"
_CLIENT_CERT = b"x-forwarded-client-cert"
_CONTENT_TYPE: Final = b"content-type"


class ForwardedHeaders:
    """Compiled from a connection manager's configuration. `use_remote_address`: this is the edge of the
    mesh, and the client's headers about earlier hops are not trusted."""

    def __init__(self, config: HttpConnectionManager) -> None:
        self._edge = config.use_remote_address
        self._trusted_hops = config.xff_num_trusted_hops
        self._append_address = config.use_remote_address and not config.skip_xff_append
        self._believe_proto = not config.use_remote_address or config.xff_num_trusted_hops > 0
        self._believe_request_id = not config.use_remote_address or config.preserve_external_request_id
        self._generate_request_id = config.generate_request_id
        # A client beyond the edge must not decide what is traced.
        self._resets_trace = (
            config.use_remote_address
            and config.preserve_external_request_id
            and config.request_id.pack_trace_reason
        )
        self._request_ids = RequestIds()
        self._client_cert = config.forward_client_cert
        self._client_cert_details = config.client_cert_details
        self._removed = _CONTROLS | (_EDGE_CONTROLS if self._edge else frozenset())
        self._known = self._removed | {_FORWARDED_FOR, _FORWARDED_PROTO, _REQUEST_ID, _CLIENT_CERT}
        self._traced = TRACE_HEADERS - self._removed if config.tracing is not None else frozenset()
        self._read = self._known | self._traced | {_CONTENT_TYPE}

    def apply(self, request: Request) -> None:
        """Keeps, replaces or adds each of these headers. The scheme becomes that of the first hop. Recognizes
        gRPC calls on the way, because another pass over the headers would cost every request."""
        proto = request_id = b""
        received: Headers = []  # not trusted as it is
        read = self._read
        for name, value in request.headers:
            if name in read:
                if name == _CONTENT_TYPE:
                    if is_grpc_content_type(value):
                        request.begin_grpc_call()
                elif name == _REQUEST_ID and self._believe_request_id and value and not request_id:
                    request_id = value
                elif name == _FORWARDED_PROTO and self._believe_proto and not proto:
                    proto = value
                elif name in self._traced:
                    request.info.trace_headers = True
                else:
                    received.append((name, value))
        if received:
            request.headers = self._without_replaced(request.headers)
        if not proto:
            request.headers.append((_FORWARDED_PROTO, request.scheme))
        elif proto in (b"http", b"https"):
            request.scheme = proto
        request.info.request_id = request_id or self._add_request_id(request)
        connection = request.info.connection
        if received or self._edge or connection.peer_id:
            self._forward_client(request, received, connection)

    def _add_request_id(self, request: Request) -> bytes:
        """Returns the new id; empty if none is to be generated."""
        if not self._generate_request_id:
            return b""
        request_id = self._request_ids.next()
        request.headers.append((_REQUEST_ID, request_id))
        return request_id

    def _without_replaced(self, headers: Headers) -> Headers:
        kept: Headers = []
        believed = {_FORWARDED_PROTO: self._believe_proto, _REQUEST_ID: self._believe_request_id}
        for field in headers:
            if field[0] in self._known:
                if not field[1] or not believed.get(field[0], False):
                    continue
                believed[field[0]] = False  # only the first one
            kept.append(field)
        return kept

    def _forward_client(self, request: Request, received: Headers, connection: DownstreamConnection) -> None:
        if self._resets_trace:
            set_trace_reason(request, NOT_TRACED)
        self._forward_addresses(request.headers, _joined(received, _FORWARDED_FOR), connection)
        self._forward_client_cert(request.headers, _joined(received, _CLIENT_CERT), connection)

    def _forward_addresses(
        self, headers: Headers, addresses: bytes, connection: DownstreamConnection
    ) -> None:
        if self._edge:
            address = connection.remote_address.host.encode()
            headers.append((b"x-envoy-external-address", self._client_address(addresses, address)))
            if self._append_address:
                addresses = b",".join((addresses, address)) if addresses else address
        if addresses:
            headers.append((_FORWARDED_FOR, addresses))

    def _client_address(self, addresses: bytes, address: bytes) -> bytes:
        """The last address that a trusted hop added, counted from the right."""
        if self._trusted_hops == 0:
            return address
        hops = addresses.split(b",")
        received = hops[-self._trusted_hops].strip() if len(hops) >= self._trusted_hops else b""
        return received if _is_ip_address(received) else address

    def _forward_client_cert(
        self, headers: Headers, received: bytes, connection: DownstreamConnection
    ) -> None:
        """``x-forwarded-client-cert``: keeps or drops the client's value, and adds the identity that mTLS
        proved."""
        mode = self._client_cert
        proved = bool(connection.peer_id)
        elements: list[bytes] = []
        if received and (
            mode is ForwardClientCert.ALWAYS_FORWARD_ONLY
            or (proved and mode in (ForwardClientCert.FORWARD_ONLY, ForwardClientCert.APPEND_FORWARD))
        ):
            elements.append(received)
        if proved and mode in (ForwardClientCert.APPEND_FORWARD, ForwardClientCert.SANITIZE_SET):
            elements.append(self._client_cert_element(connection))
        if elements:
            headers.append((_CLIENT_CERT, b",".join(elements)))

    def _client_cert_element(self, connection: DownstreamConnection) -> bytes:
        parts = [f"By={connection.local_id}", f"Hash={connection.peer_certificate_sha256}"]
        if "Subject" in self._client_cert_details:
            parts.append(f'Subject="{connection.peer_subject}"')
        if "URI" in self._client_cert_details:
            parts.append(f"URI={connection.peer_id}")
        return ";".join(parts).encode()


def _is_ip_address(value: bytes) -> bool:
    try:
        ip_address(value.decode("latin-1"))
    except ValueError:
        return False
    return True


def _joined(headers: Headers, name: bytes) -> bytes:
    return b",".join(value for header, value in headers if header == name)


class RequestIds:
    """UUIDs (RFC 9562 5.4: version 4, variant 0b10): they identify requests, and need not be secret. The
    first 48 bits are random for each; the others are drawn for many at once."""

    __slots__ = ("_at", "_digits", "_rest")

    def __init__(self) -> None:
        self._at = 0
        self._digits = ""
        self._rest = ""

    def next(self) -> bytes:
        at = self._at
        if at == len(self._digits):
            self._draw()
            at = 0
        self._at = at + 12
        digits = self._digits
        return f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}{self._rest}".encode()

    def _draw(self) -> None:
        self._digits = randbytes(_IDS_AT_ONCE * 6).hex()
        rest = randbytes(10).hex()
        self._rest = f"-4{rest[:3]}-{choice('89ab')}{rest[3:6]}-{rest[6:18]}"
