"""HTTP/2 through one proxy, to a server of HTTP/2 and to one of HTTP/1.1: 80 requests in flight."""

from __future__ import annotations

from tests.bench.case import Bar, Case
from tests.bench.documents import cluster, document, http2_options, http_filter, listener
from tests.bench.load.h2load import h2_load
from tests.bench.load.latencies import Load
from tests.bench.load.request import HEADERS, PATH
from tests.bench.site import Site
from tests.bench.traffic import Arrangement, traffic


def to_http2(site: Site) -> Arrangement:
    port = site.free_port()
    to_hosts = cluster(site.http2_upstream(), **http2_options())
    return Arrangement(port=port, documents=[document([listener(port, http_filter())], [to_hosts])])


def to_http1(site: Site) -> Arrangement:
    port = site.free_port()
    return Arrangement(
        port=port, documents=[document([listener(port, http_filter())], [cluster(site.upstream())])]
    )


def load(port: int, seconds: float) -> Load:
    return h2_load(port, seconds, path=PATH, headers=HEADERS, connections=4, in_flight=20)


CASES = [
    Case(
        name="h2-h2",
        title="HTTP/2 to HTTP/2, 12 headers, 80 in flight on 4 connections",
        bars=[Bar(figure="cpu_us", limit=0.9, aim=0.7)],
        start=traffic(to_http2, load),
    ),
    Case(
        name="h2-h1",
        title="HTTP/2 to HTTP/1.1, the same",
        bars=[Bar(figure="cpu_us", limit=0.9, aim=0.7)],
        start=traffic(to_http1, load),
    ),
]
