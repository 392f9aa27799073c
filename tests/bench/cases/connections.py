"""New connections with one request each: plain, and with full and resumed handshakes of mutual TLS."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from tests.bench.case import Bar, Case, Contender
from tests.bench.cases.http import plain
from tests.bench.documents import cluster, document, http_filter, listener, server_tls
from tests.bench.load.generator import run_generator
from tests.bench.load.latencies import Load
from tests.bench.load.wrk import http_load
from tests.bench.site import Site
from tests.bench.traffic import Arrangement, traffic

THREADS = 4
_BARS = [Bar(figure="cpu_us", limit=1.0, aim=0.8)]


def mutual_tls_downstream(site: Site) -> Arrangement:
    port = site.free_port()
    entry = listener(port, http_filter(), server_tls(site.server))
    return Arrangement(port=port, documents=[document([entry], [cluster(site.upstream())])])


def handshakes(site: Site, stack: ExitStack, *, resume: bool) -> Sequence[Contender]:
    own = site.client

    def load(port: int, seconds: float) -> Load:
        return run_generator(
            "handshakes",
            port=port,
            seconds=seconds,
            threads=THREADS,
            certificate=own.certificate,
            key=own.key,
            trusted_ca=own.trusted_ca,
            resume=resume,
        )

    return traffic(mutual_tls_downstream, load)(site, stack)


CASES = [
    Case(
        name="connections",
        title="a new connection for each request, 32 at a time",
        unit="connection",
        bars=_BARS,
        start=traffic(plain, partial(http_load, close=True)),
    ),
    Case(
        name="connections-mtls",
        title=f"the same with a full handshake of mutual TLS, {THREADS} at a time",
        unit="connection",
        bars=_BARS,
        start=partial(handshakes, resume=False),
    ),
    Case(
        name="connections-resumed",
        title=f"the same with a resumed session, {THREADS} at a time",
        unit="connection",
        bars=_BARS,
        start=partial(handshakes, resume=True),
    ),
]
