"""A sidecar with a listener, a route and a cluster for each way in which something can be counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.rcode
from cryptography import x509

from tests.support.certificates import TestAuthority, leaf_pem
from tests.support.dns_server import NameServer, name_server
from tests.support.envoy_config import (
    HTTP_OPTIONS,
    TYPE,
    address,
    dns_cluster,
    downstream_tls,
    http_connection_manager,
    listener,
    static_cluster,
    tcp_proxy,
    upstream_tls,
)
from tests.support.processes import free_port
from tests.support.recording_upstream import RecordingUpstream, recording_upstream
from tests.support.running_sidecar import RunningSidecar, running
from tests.support.silent_host import vanishing_host

SOON = "0.1s"
CARES = f"{TYPE}/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
INSPECTOR = {
    "name": "envoy.filters.listener.tls_inspector",
    "typed_config": {"@type": f"{TYPE}/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
}
PEER = "spiffe://cluster.local/ns/default/sa/reviews"
STRANGER = "spiffe://cluster.local/ns/default/sa/stranger"

# Of a manager, by the listener's name: what makes it impatient, each in a way of its own.
MANAGERS: dict[str, dict[str, Any]] = {
    "web": {"upgrade_configs": [{"upgrade_type": "websocket"}]},
    "idle": {"common_http_protocol_options": {"idle_timeout": SOON}},
    "slow-head": {"request_headers_timeout": SOON},
    "slow-request": {"request_timeout": SOON},
    "slow-stream": {"stream_idle_timeout": SOON},
    "slow-exchange": {"common_http_protocol_options": {"max_stream_duration": SOON}},
    "old": {"common_http_protocol_options": {"max_connection_duration": SOON}, "drain_timeout": SOON},
}
TCP = {"tcp": "up", "tcp-nowhere": "nowhere", "tcp-old": "up", "tcp-idle": "up"}
"""The clusters of TCP proxies, by the listener's name."""
TLS: dict[str, dict[str, Any]] = {
    "tls": {},
    "tls-open": {},
    "sniffing": {"listener_filters": [INSPECTOR]},
    "slow-hello": {"listener_filters": [INSPECTOR], "listener_filters_timeout": SOON},
}
"""What listeners have that serve TLS, by their name."""
RETRY = {"retry_on": "5xx,reset,connect-failure", "num_retries": 1}
# Of a route's action, by its path.
ROUTES: dict[str, dict[str, Any]] = {
    "retried": {"cluster": "up", "retry_policy": RETRY},
    "late": {"cluster": "up", "timeout": SOON},
    "tried-late": {"cluster": "up", "retry_policy": {**RETRY, "per_try_timeout": SOON}},
    "overflowing-retries": {"cluster": "no-retries", "retry_policy": RETRY},
    "nowhere": {"cluster": "nowhere"},
    "over-http2": {"cluster": "http2", "prefix_rewrite": "/nowhere"},
}


def outliers(**fields: Any) -> dict[str, Any]:
    return {"outlier_detection": {"interval": "60s", "max_ejection_percent": 100, **fields}}


def http_options(version: str = "http", **common: Any) -> dict[str, Any]:
    options = {
        "@type": f"{TYPE}/{HTTP_OPTIONS}",
        "common_http_protocol_options": common,
        "explicit_http_config": {f"{version}_protocol_options": {}},
    }
    return {"typed_extension_protocol_options": {HTTP_OPTIONS: options}}


def thresholds(**limits: int) -> dict[str, Any]:
    return {"circuit_breakers": {"thresholds": [limits]}}


def unhealthy(cluster: dict[str, Any]) -> dict[str, Any]:
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["health_status"] = "UNHEALTHY"
    return cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files in PEM: the server's, the root that signed it, a foreign root, and those of three clients, by
    their name."""

    server: Path
    root: Path
    foreign_root: Path
    clients: dict[str, Path]


def make_certificates(folder: Path) -> Certificates:
    lifetime = {"not_before": time.time() - 3600, "not_after": time.time() + 3600}
    root, foreign = TestAuthority("root", **lifetime), TestAuthority("foreign", **lifetime)
    files = {}
    for name, authority, identity in (
        ("server", root, PEER),
        ("known", root, PEER),
        ("stranger", root, STRANGER),
        ("foreign", foreign, PEER),
    ):
        files[name] = folder / f"{name}.pem"
        files[name].write_bytes(leaf_pem(authority, [x509.UniformResourceIdentifier(identity)]))
    roots = [folder / "root.pem", folder / "foreign-root.pem"]
    for file, authority in zip(roots, (root, foreign), strict=True):
        file.write_bytes(authority.certificate_pem)
    return Certificates(server=files.pop("server"), root=roots[0], foreign_root=roots[1], clients=files)


def trusting(root: Path, peer: str) -> dict[str, Any]:
    match = {"san_type": "URI", "matcher": {"exact": peer}}
    return {
        "trusted_ca": {"filename": str(root)},
        "match_typed_subject_alt_names": [match],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedMesh:
    """``ports`` are the listeners', by name."""

    sidecar: RunningSidecar
    upstream: RecordingUpstream
    ports: dict[str, int]
    certificates: Certificates


def listeners(ports: dict[str, int], certificates: Certificates) -> list[dict[str, Any]]:
    routes = [
        {"match": {"path": "/direct"}, "direct_response": {"status": 200}},
        *({"match": {"path": f"/{path}"}, "route": action} for path, action in ROUTES.items()),
        {"match": {"safe_regex": {"regex": "/[^/]*"}}, "route": {"cluster_header": "x-cluster"}},
    ]
    table = {
        "name": "routes",
        "validate_clusters": False,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
    }
    made = [
        listener(name, http_connection_manager(stat_prefix=name, route_config=table, **fields), ports[name])
        for name, fields in MANAGERS.items()
    ]
    made += [listener(name, tcp_proxy(cluster), ports[name]) for name, cluster in TCP.items()]
    made[-1]["filter_chains"][0]["filters"][0]["typed_config"]["idle_timeout"] = SOON
    made[-2]["filter_chains"][0]["filters"][0]["typed_config"]["max_downstream_connection_duration"] = SOON
    for name, options in TLS.items():
        served = listener(name, tcp_proxy("up"), ports[name]) | options
        served["filter_chains"][0]["transport_socket"] = serving_tls(certificates, name != "tls-open")
        if options:
            served["filter_chains"][0]["filter_chain_match"] = {"transport_protocol": "tls"}
        made.append(served)
    return made


def serving_tls(certificates: Certificates, verifies: bool) -> dict[str, Any]:
    file = {"filename": str(certificates.server)}
    own = {"tls_certificates": [{"certificate_chain": file, "private_key": file}]}
    if not verifies:
        return downstream_tls(**own)
    socket = downstream_tls(**own, validation_context=trusting(certificates.root, PEER))
    socket["typed_config"]["require_client_certificate"] = True
    return socket


def clusters(ports: dict[str, int], certificates: Certificates) -> list[dict[str, Any]]:
    """Of ``ports``, ``up`` answers, ``gone`` refuses, ``vanishing`` says nothing, and ``names`` is a name
    server's."""
    up, gone = ports["up"], ports["gone"]

    def secured(name: str, port: int, peer: str, root: Path = certificates.root) -> dict[str, Any]:
        socket = upstream_tls(validation_context=trusting(root, peer))
        return {**static_cluster(name, port), "transport_socket": socket}

    def resolved(name: str, host: str) -> dict[str, Any]:
        cares = {"@type": CARES, "resolvers": [address(ports["names"])], "query_tries": 1}
        resolver = {"typed_dns_resolver_config": {"name": "cares", "typed_config": cares}}
        return dns_cluster(name, host, up, dns_lookup_family="V4_ONLY", **resolver)

    return [
        static_cluster("up", up),
        static_cluster("gone", gone),
        {**static_cluster("vanishing", ports["vanishing"]), "connect_timeout": SOON},
        {"name": "empty", "type": "STATIC"},
        unhealthy(static_cluster("panicking", up)),
        {**static_cluster("5xx", up), **outliers(consecutive_5xx=2)},
        {
            **static_cluster("gateway", up),
            **outliers(consecutive_gateway_failure=2, enforcing_consecutive_gateway_failure=100),
        },
        {
            **static_cluster("local-origin", gone),
            **outliers(split_external_local_origin_errors=True, consecutive_local_origin_failure=2),
        },
        {**static_cluster("never-ejected", up), **outliers(consecutive_5xx=2, max_ejection_percent=0)},
        {**static_cluster("idle", up), **http_options(idle_timeout=SOON)},
        {**static_cluster("old", up), **http_options(max_connection_duration=SOON)},
        {**static_cluster("one-request", up), **http_options(max_requests_per_connection=1)},
        {**static_cluster("narrow", up), **thresholds(max_connections=1, max_pending_requests=1)},
        {**static_cluster("no-retries", up), **thresholds(max_retries=0)},
        {**static_cluster("no-requests", up), **thresholds(max_requests=0)},
        {**static_cluster("http2", ports["web"]), **http_options("http2", idle_timeout=SOON)},
        secured("trusted", ports["tls-open"], PEER),
        secured("misnamed", ports["tls-open"], STRANGER),
        secured("untrusted", ports["tls-open"], PEER, certificates.foreign_root),
        secured("plaintext", ports["web"], PEER),
        resolved("resolved", "up.test"),
        resolved("unresolved", "broken.test"),
    ]


@contextmanager
def counted_mesh(folder: Path, *, max_descriptors: int | None = None) -> Iterator[CountedMesh]:
    with ExitStack() as stack:
        upstream = stack.enter_context(recording_upstream("up"))
        names: NameServer = stack.enter_context(name_server())
        names.say("up.test", "127.0.0.1", ttl_s=60)
        names.say("broken.test", rcode=dns.rcode.SERVFAIL)
        certificates = make_certificates(folder)
        ports = {name: free_port() for name in (*MANAGERS, *TCP, *TLS, "gone")}
        ports |= {**upstream.ports, "names": names.port, "vanishing": stack.enter_context(vanishing_host())}
        document = {
            "node": {"id": "test", "cluster": "test"},
            "static_resources": {
                "listeners": listeners(ports, certificates),
                "clusters": clusters(ports, certificates),
            },
        }
        started = running(folder, document, "--drain-time-s", "1", max_descriptors=max_descriptors)
        sidecar = stack.enter_context(started)
        sidecar.wait_for_state("LIVE")
        yield CountedMesh(sidecar=sidecar, upstream=upstream, ports=ports, certificates=certificates)
