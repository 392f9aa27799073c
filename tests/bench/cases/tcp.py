"""The TCP proxy: small messages, and bulk. The load speaks HTTP, which the proxy does not see."""

from __future__ import annotations

from tests.bench.case import Bar, Case
from tests.bench.documents import cluster, document, listener
from tests.bench.load.wrk import http_load
from tests.bench.proxies.orientation import Simple
from tests.bench.site import Site
from tests.bench.traffic import Arrangement, traffic
from tests.support.envoy_config import tcp_proxy

MIB = 2**20


def tcp(site: Site) -> Arrangement:
    port, upstream = site.free_port(), site.upstream()
    return Arrangement(
        port=port,
        documents=[document([listener(port, tcp_proxy("upstream"))], [cluster(upstream)])],
        simple=Simple(upstream_port=upstream, mode="tcp"),
    )


CASES = [
    Case(
        name="tcp-small",
        title="TCP, messages of 0.6 KiB to and fro, 32 connections",
        unit="message",
        bars=[Bar(figure="cpu_us", limit=0.8, aim=0.6)],
        start=traffic(tcp, http_load),
    ),
    Case(
        name="tcp-bulk",
        title="TCP, bulk from the server, 8 connections",
        unit="MiB",
        bars=[Bar(figure="cpu_us", limit=0.8, aim=0.6)],
        start=traffic(
            tcp, lambda port, seconds: http_load(port, seconds, connections=8, path=f"/bytes/{MIB}")
        ),
    ),
]
