"""Parts of the bootstrap files: Envoy's JSON, which both proxies read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.bench.site import CLIENT, SERVER, Identity
from tests.support import envoy_config
from tests.support.envoy_config import address, http_connection_manager, load_assignment
from tests.support.processes import free_port

Document = dict[str, Any]
HOSTS = 3
_VERSION = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}


def bootstrap(listener_port: int, admin_port: int, upstream_port: int) -> Document:
    """An HTTP listener with a few routes to a cluster of three hosts."""
    return document([listener(listener_port, http_filter())], [cluster(upstream_port)], admin_port=admin_port)


def document(
    listeners: Sequence[Document], clusters: Sequence[Document], *, admin_port: int | None = None
) -> Document:
    return {
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": address(free_port() if admin_port is None else admin_port)},
        "static_resources": {"listeners": [*listeners], "clusters": [*clusters]},
    }


def admin_port_of(document: Document) -> int:
    return int(document["admin"]["address"]["socket_address"]["port_value"])


def listener(port: int, filter_: Document, tls: Document | None = None, **fields: Any) -> Document:
    made = envoy_config.listener("bench", filter_, port)
    if tls is not None:
        made["filter_chains"][0]["transport_socket"] = tls
    return made | fields


def cluster(*ports: int, name: str = "upstream", tls: Document | None = None, **fields: Any) -> Document:
    """Each port is one host; a single one is three hosts, so that there is something to balance."""
    made = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "outlier_detection": {"consecutive_5xx": 5},
        "load_assignment": load_assignment(name, *(ports if len(ports) > 1 else ports * HOSTS)),
    }
    return made | ({} if tls is None else {"transport_socket": tls}) | fields


def http2_options() -> Document:
    """Fields of a cluster whose hosts speak HTTP/2."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {"@type": f"type.googleapis.com/{name}", "explicit_http_config": {"http2_protocol_options": {}}}
    return {"typed_extension_protocol_options": {name: options}}


def http_filter(virtual_hosts: Sequence[Document] = (), **fields: Any) -> Document:
    configuration = {"name": "bench", "virtual_hosts": list(virtual_hosts) or [virtual_host()]}
    return http_connection_manager(stat_prefix="bench", route_config=configuration, **fields)


def virtual_host(**fields: Any) -> Document:
    """A direct response, an exception, and the route that the requests take."""
    route = {
        "cluster": "upstream",
        "timeout": "15s",
        "retry_policy": {"retry_on": "5xx,connect-failure", "num_retries": 2},
    }
    routes = [
        {"match": {"path": "/healthz"}, "direct_response": {"status": 200}},
        {"match": {"prefix": "/admin"}, "route": {"cluster": "upstream"}},
        {"match": {"prefix": "/"}, "route": route},
    ]
    return {"name": "all", "domains": ["*"], "routes": routes} | fields


def server_tls(identity: Identity, *, mutual: bool = True) -> Document:
    """A listener's TLS 1.3; `mutual` requires a client's certificate of the same authority."""
    made = envoy_config.downstream_tls(**_common(identity, CLIENT if mutual else None))
    if mutual:
        made["typed_config"]["require_client_certificate"] = True
    return made


def client_tls(identity: Identity) -> Document:
    """A cluster's mutual TLS 1.3 with hosts that have the server's SPIFFE id."""
    made = envoy_config.upstream_tls(**_common(identity, SERVER))
    made["typed_config"]["sni"] = "outbound_.80_._.server.default.svc.cluster.local"
    return made


def _common(identity: Identity, peer: str | None) -> Document:
    files = {
        "certificate_chain": {"filename": identity.certificate},
        "private_key": {"filename": identity.key},
    }
    common: Document = {"tls_params": _VERSION, "tls_certificates": [files]}
    if peer is not None:
        matcher = {"san_type": "URI", "matcher": {"exact": peer}}
        common["validation_context"] = {
            "trusted_ca": {"filename": identity.trusted_ca},
            "match_typed_subject_alt_names": [matcher],
        }
    return common
