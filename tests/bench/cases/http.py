"""HTTP/1.1 through one proxy, plain and with TLS on one side, and through two with mutual TLS between."""

from __future__ import annotations

from tests.bench.case import Bar, Case
from tests.bench.documents import client_tls, cluster, document, http_filter, listener, server_tls
from tests.bench.load.wrk import http_load
from tests.bench.proxies.orientation import Simple
from tests.bench.site import Site
from tests.bench.traffic import Arrangement, traffic


def plain(site: Site) -> Arrangement:
    port, upstream = site.free_port(), site.upstream()
    return Arrangement(
        port=port,
        documents=[document([listener(port, http_filter())], [cluster(upstream)])],
        simple=Simple(upstream_port=upstream),
    )


def tls_downstream(site: Site) -> Arrangement:
    port, upstream = site.free_port(), site.upstream()
    tls = server_tls(site.server, mutual=False)
    return Arrangement(
        port=port,
        documents=[document([listener(port, http_filter(), tls)], [cluster(upstream)])],
        simple=Simple(upstream_port=upstream, server=site.server),
    )


def mutual_tls_upstream(site: Site) -> Arrangement:
    port, upstream = site.free_port(), site.upstream(mutual_tls=True)
    to_hosts = cluster(upstream, tls=client_tls(site.client))
    return Arrangement(port=port, documents=[document([listener(port, http_filter())], [to_hosts])])


def whole_hop(site: Site) -> Arrangement:
    """The client's proxy, mutual TLS, the server's proxy."""
    outbound, inbound = site.free_port(), site.free_port()
    to_server = cluster(inbound, tls=client_tls(site.client))
    at_server = listener(inbound, http_filter(), server_tls(site.server))
    return Arrangement(
        port=outbound,
        documents=[
            document([at_server], [cluster(site.upstream())]),
            document([listener(outbound, http_filter())], [to_server]),
        ],
    )


CASES = [
    Case(
        name="http1",
        title="HTTP/1.1, 12 headers, 32 connections",
        bars=[Bar(figure="cpu_us", limit=0.65, aim=0.5)],
        start=traffic(plain, http_load),
    ),
    Case(
        name="tls-downstream",
        title="the same, TLS downstream",
        bars=[Bar(figure="cpu_us", limit=0.75, aim=0.6)],
        start=traffic(tls_downstream, lambda port, seconds: http_load(port, seconds, tls=True)),
    ),
    Case(
        name="mtls-upstream",
        title="the same, mutual TLS upstream",
        bars=[Bar(figure="cpu_us", limit=0.65, aim=0.5)],
        start=traffic(mutual_tls_upstream, http_load),
    ),
    Case(
        name="whole-hop",
        title="two proxies with mutual TLS between them",
        bars=[Bar(figure="cpu_us", limit=0.75, aim=0.6)],
        start=traffic(whole_hop, http_load),
    ),
]
