"""A steady rate far from saturation, where most sidecars live: an open loop through two proxies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from tests.bench.case import Bar, Case, Contender, Figures
from tests.bench.cases.http import whole_hop
from tests.bench.load.generator import run_generator
from tests.bench.load.latencies import Load
from tests.bench.load.wrk import http_load
from tests.bench.proxies.system_calls import count_system_calls
from tests.bench.site import Site
from tests.bench.traffic import WARM_UP_S, contender, start_proxies

RATE_PER_S = 1000.0
CONNECTIONS = 16
BODY_BYTES = 1024
_PEAK_S = 2.0
_COUNTED_S = 2.0
_LATENCIES = ("per_s", "p50_ms", "p99_ms", "p999_ms", "worst_ms")


def steadily(rate_per_s: float, port: int, seconds: float) -> Load:
    return run_generator(
        "open_loop",
        port=port,
        seconds=seconds,
        rate_per_s=rate_per_s,
        connections=CONNECTIONS,
        body_bytes=BODY_BYTES,
    )


def start(site: Site, stack: ExitStack, *, rate_per_s: float | None) -> Sequence[Contender]:
    """Without a rate, half of the requests that Envoy answers in a closed loop. The upstream alone takes
    part, too: its latencies are the floor."""
    started = start_proxies(site, stack, whole_hop)
    if rate_per_s is None:
        envoy_port = started[0][2].port
        peak = http_load(envoy_port, _PEAK_S, connections=CONNECTIONS, path=f"/bytes/{BODY_BYTES}")
        rate_per_s = peak.done / peak.seconds / 2
    load = partial(steadily, rate_per_s)
    contenders = []
    for name, processes, arrangement in started:
        load(arrangement.port, WARM_UP_S)
        made = contender(name, processes, arrangement.port, load)
        contenders.append(replace(made, finish=partial(system_calls, made.roots, arrangement.port, load)))
    return [*contenders, Contender(name="no proxy", measure=partial(directly, site.upstream(), load))]


def directly(port: int, load: partial[Load], seconds: float) -> Figures:
    done = load(port, seconds)
    return {"per_s": done.done / done.seconds} | {
        name: getattr(done, name) for name in _LATENCIES if name != "per_s"
    }


def system_calls(roots: Sequence[int], port: int, load: partial[Load]) -> Figures:
    counted = count_system_calls(roots, lambda: load(port, _COUNTED_S).done)
    return {} if counted is None else {"system_calls": counted}


_BARS = [
    Bar(figure="cpu_percent", limit=0.9, aim=0.7),
    Bar(figure="p50_ms", limit=1.0),
    Bar(figure="p99_ms", limit=1.0),
    Bar(figure="worst_ms", limit=1.0),
]
CASES = [
    Case(
        name="steady",
        title=f"{RATE_PER_S:g} requests/s, {BODY_BYTES} bytes, open loop, {CONNECTIONS} connections, two "
        "proxies with mutual TLS",
        compared="cpu_percent",
        bars=_BARS,
        longer=4,
        start=partial(start, rate_per_s=RATE_PER_S),
    ),
    Case(
        name="steady-half-peak",
        title="the same at half of the rate at which Envoy is saturated",
        compared="cpu_percent",
        bars=_BARS[1:],
        longer=4,
        start=partial(start, rate_per_s=None),
    ),
]
