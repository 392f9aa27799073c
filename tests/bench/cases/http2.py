"""HTTP/2 with 80 requests in flight: through one proxy, to a server of HTTP/2 and to one of HTTP/1.1, and
through two with mutual TLS between them. Also the memory of idle streams."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack

from tests.bench.case import Bar, Case, Figures
from tests.bench.documents import (
    admin_port_of,
    client_tls,
    cluster,
    document,
    http2_options,
    http_filter,
    listener,
    server_tls,
)
from tests.bench.fresh import each_round
from tests.bench.load.generator import ROOT, LoadError
from tests.bench.load.h2load import h2_load
from tests.bench.load.latencies import Load
from tests.bench.load.request import HEADERS, PATH
from tests.bench.proxies.launch import Kind
from tests.bench.site import Site
from tests.bench.traffic import Arrangement, memory_figures, traffic

_IDLE_CONNECTIONS = 10
_IDLE_STREAMS = 100  # on each
_DEADLINE_S = 20.0
_SETTLE_S = 1.0


def to_http2(site: Site) -> Arrangement:
    port = site.free_port()
    to_hosts = cluster(site.http2_upstream(), **http2_options())
    return Arrangement(port=port, documents=[document([listener(port, http_filter())], [to_hosts])])


def to_http1(site: Site) -> Arrangement:
    port = site.free_port()
    return Arrangement(
        port=port, documents=[document([listener(port, http_filter())], [cluster(site.upstream())])]
    )


def whole_hop(site: Site) -> Arrangement:
    """HTTP/2 also between the client's proxy and the server's."""
    outbound, inbound = site.free_port(), site.free_port()
    to_server = cluster(inbound, tls=client_tls(site.client), **http2_options())
    at_server = listener(inbound, http_filter(), server_tls(site.server))
    to_hosts = cluster(site.http2_upstream(), **http2_options())
    return Arrangement(
        port=outbound,
        documents=[
            document([at_server], [to_hosts]),
            document([listener(outbound, http_filter())], [to_server]),
        ],
    )


def load(port: int, seconds: float) -> Load:
    return h2_load(port, seconds, path=PATH, headers=HEADERS, connections=4, in_flight=20)


def with_idle_streams(site: Site, kind: Kind) -> Figures:
    arrangement = to_http2(site)
    with ExitStack() as stack:
        document = arrangement.documents[0]
        process = kind.start(site, stack, document, workers=site.concurrency)
        load(arrangement.port, 1)
        before = memory_figures([process.pid])
        command = [sys.executable, "-m", "tests.bench.load.idle_streams", str(arrangement.port)]
        command += [str(_IDLE_CONNECTIONS), str(_IDLE_STREAMS)]
        client = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT))
        assert client.stdin is not None
        _wait_for_streams(admin_port_of(document), _IDLE_CONNECTIONS * _IDLE_STREAMS)
        time.sleep(_SETTLE_S)
        after = memory_figures([process.pid])
        client.stdin.close()
    grown_kib = (after["private_mib"] - before["private_mib"]) * 1024
    return after | {"stream_kib": grown_kib / (_IDLE_CONNECTIONS * _IDLE_STREAMS)}


def _wait_for_streams(admin_port: int, count: int) -> None:
    deadline_s = time.monotonic() + _DEADLINE_S
    url = f"http://127.0.0.1:{admin_port}/stats?filter=cluster.upstream.upstream_rq_active"
    while time.monotonic() < deadline_s:
        with urllib.request.urlopen(url, timeout=_DEADLINE_S) as answer:
            active = re.search(rb"upstream_rq_active: (\d+)", answer.read())
        if active is not None and int(active[1]) == count:
            return
        time.sleep(0.1)
    raise LoadError(f"{count} streams did not reach the upstream")


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
    Case(
        name="h2-whole-hop",
        title="HTTP/2 through two proxies with mutual TLS between them, the same",
        bars=[Bar(figure="cpu_us", limit=0.85, aim=0.7)],
        start=traffic(whole_hop, load),
    ),
    Case(
        name="h2-idle",
        title=f"memory with {_IDLE_CONNECTIONS * _IDLE_STREAMS} idle streams of HTTP/2",
        unit="proxy",
        compared="resident_mib",
        bars=[],
        start=each_round(with_idle_streams),
    ),
]
