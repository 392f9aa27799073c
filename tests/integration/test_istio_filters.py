"""The HTTP filters that an istiod configures, in sidecars with real sockets and mutual TLS.

client -> outbound sidecar (reviews) -> mutual TLS -> inbound sidecar (ratings) -> application
"""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from protos.spiffe import SpiffeId
from tests.support.identities import TestTrustDomain
from tests.support.processes import child, free_port
from tests.support.raw_http import RawConnection
from tests.support.recording_upstream import RecordingUpstream, recording_upstream

TYPE = "type.googleapis.com"
TYPED_STRUCT = f"{TYPE}/udpa.type.v1.TypedStruct"
HTTP = f"{TYPE}/envoy.extensions.filters.http"
TLS = f"{TYPE}/envoy.extensions.transport_sockets.tls.v3"


def struct(name: str, inner: str, **value: Any) -> dict[str, Any]:
    return {
        "name": name,
        "typed_config": {"@type": TYPED_STRUCT, "type_url": f"{TYPE}/{inner}", "value": value},
    }


def metadata_exchange(**methods: Any) -> dict[str, Any]:
    return struct("istio.metadata_exchange", "io.istio.http.peer_metadata.Config", **methods)


HEADERS = [{"istio_headers": {}}, {"workload_discovery": {}}]
TELL = [{"istio_headers": {}}]
STATS = struct("istio.stats", "stats.PluginConfig", disable_host_header_fallback=True)
ROUTE_FILTERS = [
    {
        "name": "envoy.filters.http.grpc_stats",
        "typed_config": {"@type": f"{HTTP}.grpc_stats.v3.FilterConfig"},
    },
    {"name": "envoy.filters.http.fault", "typed_config": {"@type": f"{HTTP}.fault.v3.HTTPFault"}},
    {"name": "envoy.filters.http.cors", "typed_config": {"@type": f"{HTTP}.cors.v3.Cors"}},
]
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{HTTP}.router.v3.Router"}}
ALPN = {
    "name": "istio.alpn",
    "typed_config": {
        "@type": f"{TYPE}/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
        "alpn_override": [
            {"upstream_protocol": "HTTP11", "alpn_override": ["istio-http/1.1", "istio", "http/1.1"]},
            {"upstream_protocol": "HTTP2", "alpn_override": ["istio-h2", "istio", "h2"]},
        ],
    },
}
OUTBOUND = [
    metadata_exchange(upstream_discovery=HEADERS, upstream_propagation=TELL),
    ALPN,
    *ROUTE_FILTERS,
    STATS,
    ROUTER,
]
INBOUND = [
    metadata_exchange(downstream_discovery=HEADERS, downstream_propagation=TELL),
    *ROUTE_FILTERS,
    STATS,
    ROUTER,
]


def node(workload: str) -> dict[str, Any]:
    labels = {"service.istio.io/canonical-name": workload, "service.istio.io/canonical-revision": "v1"}
    metadata = {"NAMESPACE": "bookinfo", "WORKLOAD_NAME": f"{workload}-v1", "LABELS": labels}
    return {"id": f"sidecar~10.0.0.1~{workload}.bookinfo~a", "cluster": workload, "metadata": metadata}


def listener(
    name: str, port: int, direction: str, filters: list[dict[str, Any]], **chain: Any
) -> dict[str, Any]:
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "next"}, "decorator": {"operation": "next/*"}}]
    manager = {
        "@type": f"{TYPE}/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": filters,
        "proxy_100_continue": True,
        "tracing": {
            "random_sampling": {"value": 1},
            "custom_tags": [{"tag": "istio.mesh_id", "literal": {"value": "a"}}],
        },
        "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
    }
    return {
        "name": name,
        "address": address(port),
        "traffic_direction": direction,
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}], **chain}],
    }


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(port: int, **options: Any) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]
    assignment = {"cluster_name": "next", "endpoints": endpoints}
    return {
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": assignment,
        **options,
    }


def tls_of(
    domain: TestTrustDomain, account: str, context: str, alpn: list[str], **options: Any
) -> dict[str, Any]:
    own = domain.svid(SpiffeId("cluster.local", "bookinfo", account))
    certificate = {"inline_string": own.chain.decode()}
    common = {
        "tls_certificates": [
            {"certificate_chain": certificate, "private_key": {"inline_string": own.key.decode()}}
        ],
        "validation_context": {"trusted_ca": {"inline_string": domain.root_pem}},
        "alpn_protocols": alpn,
    }
    config = {"@type": f"{TLS}.{context}", "common_tls_context": common, **options}
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": config}}


@dataclass
class Hop:
    port: int
    upstream: RecordingUpstream
    metrics: dict[str, int]

    def page(self, name: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics[name]}/stats/prometheus") as answer:
            return str(answer.read().decode())

    def series(self, name: str) -> str:
        """The only series of requests."""
        lines = [line for line in self.page(name).splitlines() if line.startswith("istio_requests_total{")]
        (line,) = lines
        return line


@pytest.fixture(scope="module", params=["h1", "h2"])
def hop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hop]:
    folder = tmp_path_factory.mktemp("istio")
    domain = TestTrustDomain()
    port, inner = free_port(), free_port()
    metrics = {"outbound": free_port(), "inbound": free_port()}
    options: dict[str, Any] = {
        "filters": [
            struct(
                "istio.metadata_exchange",
                "envoy.tcp.metadataexchange.config.MetadataExchange",
                protocol="istio-peer-exchange",
                enable_discovery=True,
            )
        ]
    }
    if request.param == "h2":
        options["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    alpn = ["istio-peer-exchange", "istio"]
    client_tls = tls_of(domain, "reviews", "UpstreamTlsContext", alpn, sni="outbound_.9080_._.ratings")
    alpn = ["istio-peer-exchange", "h2", "http/1.1"]
    server_tls = tls_of(domain, "ratings", "DownstreamTlsContext", alpn, require_client_certificate=True)
    with ExitStack() as stack:
        upstream = stack.enter_context(recording_upstream("app"))
        # As in istiod's listeners: only the names that the alpn filter offers choose the chain for HTTP.
        names = {"application_protocols": ["istio-http/1.1", "istio-h2"], "transport_protocol": "tls"}
        inbound = listener("inbound", inner, "INBOUND", INBOUND, filter_chain_match=names, **server_tls)
        inbound["listener_filters"] = [
            {
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {
                    "@type": f"{TYPE}/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
                },
            }
        ]
        documents = {
            "inbound": ("ratings", inbound, cluster(upstream.ports["app"])),
            "outbound": (
                "reviews",
                listener("outbound", port, "OUTBOUND", OUTBOUND),
                cluster(inner, **options, **client_tls),
            ),
        }
        for name, (workload, its_listener, its_cluster) in documents.items():
            document = {
                "node": node(workload),
                "admin": {"address": address(metrics[name])},
                "static_resources": {"listeners": [its_listener], "clusters": [its_cluster]},
            }
            file = folder / f"{name}.yaml"
            file.write_text(yaml.safe_dump(document))
            command = [sys.executable, "-m", "sidecar", "-c", str(file), "--concurrency", "1"]
            command += ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
            process = stack.enter_context(child(command, folder / f"{name}.log"))
            process.wait_for_port(inner if name == "inbound" else port)
        yield Hop(port, upstream, metrics)


def test_both_ends_know_each_other_and_neither_application_sees_how(hop: Hop) -> None:
    with RawConnection(hop.port) as connection:
        connection.send(b"GET / HTTP/1.1\r\nhost: ratings:9080\r\n\r\n")
        answer = connection.read_answer("GET")
    assert answer.status == 200
    (seen,) = hop.upstream.take_seen()
    for fields in (answer.fields, seen.fields):
        assert not [name for name, _ in fields if name.startswith("x-envoy-peer-metadata")]
    source, destination = hop.series("outbound"), hop.series("inbound")
    assert 'reporter="source"' in source
    assert 'destination_workload="ratings-v1"' in source
    assert 'destination_canonical_service="ratings"' in source
    assert 'reporter="destination"' in destination
    assert 'source_workload="reviews-v1"' in destination
    assert 'source_principal="spiffe://cluster.local/ns/bookinfo/sa/reviews"' in destination
    assert 'source_canonical_revision="v1"' in destination


def test_the_upstream_meets_the_expectation_of_a_client(hop: Hop) -> None:
    with RawConnection(hop.port) as connection:
        connection.send(
            b"POST / HTTP/1.1\r\nhost: ratings\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\nhi"
        )
        assert connection.read_answer("POST").status == 200
    (seen,) = hop.upstream.take_seen()
    assert seen.value("expect") == "100-continue"
