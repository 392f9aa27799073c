"""What Envoy 1.40 sent upstream for the same requests, where it says so."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from sidecar.config.listener import ForwardClientCert, HttpConnectionManager
from sidecar.config.tracing import RequestIdOptions, Tracing
from sidecar.http.body import EMPTY
from sidecar.http.forwarded import ForwardedHeaders, RequestIds
from sidecar.http.headers import Headers, get_header
from sidecar.http.message import Request
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from tests.support.http1 import CLIENT, client_with

SAID: Headers = [
    (b"x-request-id", b"said"),
    (b"x-envoy-retry-on", b"5xx"),
    (b"x-envoy-foo", b"1"),
    (b"x-forwarded-for", b"1.2.3.4"),
    (b"x-forwarded-proto", b"https"),
    (b"x-envoy-original-path", b"/z"),
]
PEER = client_with(
    peer_id="spiffe://td/ns/a/sa/client",
    local_id="spiffe://td/ns/b/sa/server",
    peer_certificate_sha256="ab12",
    peer_subject="CN=x",
)


def apply(headers: Headers, connection: DownstreamConnection = CLIENT, **config: Any) -> Request:
    request = Request(b"GET", b"http", b"a", b"/", list(headers), EMPTY, StreamInfo(connection, 0, 0))
    ForwardedHeaders(HttpConnectionManager(stat_prefix="x", **config)).apply(request)
    return request


def test_within_the_mesh_earlier_hops_are_believed() -> None:
    request = apply(SAID)
    assert sorted(request.headers) == sorted(
        [
            (b"x-request-id", b"said"),
            (b"x-envoy-foo", b"1"),
            (b"x-forwarded-for", b"1.2.3.4"),
            (b"x-forwarded-proto", b"https"),
            (b"x-envoy-original-path", b"/z"),
        ]
    )
    assert request.scheme == b"https"
    assert request.info.request_id == b"said"


def test_at_the_edge_they_are_not() -> None:
    request = apply(SAID, use_remote_address=True)
    headers = dict(request.headers)
    assert headers.pop(b"x-request-id") != b"said"
    assert headers == {
        b"x-envoy-foo": b"1",
        b"x-forwarded-for": b"1.2.3.4,10.0.0.9",
        b"x-forwarded-proto": b"http",
        b"x-envoy-external-address": b"10.0.0.9",
    }
    assert request.scheme == b"http"


@pytest.mark.parametrize(("packed", "digit"), [(True, b"4"), (False, b"9")])
def test_a_client_beyond_the_edge_does_not_decide_what_is_traced(packed: bool, digit: bytes) -> None:
    said = b"00000001-2345-9789-8abc-def012345678"
    request = apply(
        [(b"x-request-id", said)],
        use_remote_address=True,
        preserve_external_request_id=True,
        request_id=RequestIdOptions(pack_trace_reason=packed),
    )
    kept = said[:14] + digit + said[15:]
    assert get_header(request.headers, b"x-request-id") == kept
    assert request.info.request_id == kept


def test_headers_about_traces_are_noted_where_something_is_traced() -> None:
    operation: Headers = [(b"x-envoy-decorator-operation", b"a")]
    asks: Headers = [(b"x-client-trace-id", b"1")]
    assert apply(operation, tracing=Tracing()).info.trace_headers
    assert apply(asks, tracing=Tracing()).info.trace_headers
    assert apply(asks, tracing=Tracing(), use_remote_address=True).info.trace_headers
    assert not apply(SAID, tracing=Tracing()).info.trace_headers
    assert not apply(operation).info.trace_headers
    beyond_the_edge = apply(operation, tracing=Tracing(), use_remote_address=True)
    assert not beyond_the_edge.info.trace_headers
    assert get_header(beyond_the_edge.headers, b"x-envoy-decorator-operation") is None


def test_missing_headers_are_added() -> None:
    request = apply([])
    assert get_header(request.headers, b"x-forwarded-proto") == b"http"
    assert get_header(request.headers, b"x-request-id") == request.info.request_id
    assert get_header(request.headers, b"x-forwarded-for") is None


def test_request_id_where_none_is_generated_or_a_strangers_is_kept() -> None:
    assert get_header(apply([], generate_request_id=False).headers, b"x-request-id") is None
    kept = apply(SAID, use_remote_address=True, preserve_external_request_id=True)
    assert kept.info.request_id == b"said"


def test_second_value_of_a_believed_header_is_dropped() -> None:
    request = apply([(b"x-request-id", b"one"), (b"x-request-id", b"two")])
    assert [value for name, value in request.headers if name == b"x-request-id"] == [b"one"]


@pytest.mark.parametrize("said", [b"", b"unknown", b"10.0.0.1:80", b"10.0.0.1, somebody"])
def test_a_trusted_hop_that_names_no_address_is_not_believed(said: bytes) -> None:
    request = apply([(b"x-forwarded-for", said)], use_remote_address=True, xff_num_trusted_hops=1)
    remote = CLIENT.remote_address.host.encode()
    assert get_header(request.headers, b"x-envoy-external-address") == remote


def test_an_empty_request_id_is_replaced() -> None:
    request = apply([(b"x-request-id", b"")])
    ids = [value for name, value in request.headers if name == b"x-request-id"]
    assert ids == [request.info.request_id]
    assert uuid.UUID(ids[0].decode())


def test_trusted_hops_before_this_one() -> None:
    request = apply(
        [(b"x-forwarded-for", b"6.6.6.6, 5.5.5.5"), (b"x-forwarded-proto", b"https")],
        use_remote_address=True,
        xff_num_trusted_hops=1,
    )
    assert get_header(request.headers, b"x-envoy-external-address") == b"5.5.5.5"
    assert get_header(request.headers, b"x-forwarded-proto") == b"https"


def test_appending_can_be_skipped() -> None:
    request = apply(SAID, use_remote_address=True, skip_xff_append=True)
    assert get_header(request.headers, b"x-forwarded-for") == b"1.2.3.4"


ELEMENT = b'By=spiffe://td/ns/b/sa/server;Hash=ab12;Subject="CN=x";URI=spiffe://td/ns/a/sa/client'


@pytest.mark.parametrize(
    ("mode", "proved", "plaintext"),
    [
        (ForwardClientCert.SANITIZE, None, None),
        (ForwardClientCert.FORWARD_ONLY, b"said", None),
        (ForwardClientCert.APPEND_FORWARD, b"said," + ELEMENT, None),
        (ForwardClientCert.SANITIZE_SET, ELEMENT, None),
        (ForwardClientCert.ALWAYS_FORWARD_ONLY, b"said", b"said"),
    ],
)
def test_client_certificate(mode: ForwardClientCert, proved: bytes | None, plaintext: bytes | None) -> None:
    for connection, expected in ((PEER, proved), (CLIENT, plaintext)):
        request = apply(
            [(b"x-forwarded-client-cert", b"said")],
            connection,
            forward_client_cert=mode,
            client_cert_details=frozenset({"Subject", "URI"}),
        )
        assert get_header(request.headers, b"x-forwarded-client-cert") == expected


def test_request_ids_are_random_uuids() -> None:
    request_ids = RequestIds()
    ids = {request_ids.next() for _ in range(200)}
    assert len(ids) == 200
    for value in ids:
        parsed = uuid.UUID(value.decode())
        assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, value.decode())
