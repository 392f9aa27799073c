"""Bodies through HTTP/1.1, from the server and to it."""

from __future__ import annotations

from functools import partial

from tests.bench.case import Bar, Case
from tests.bench.cases.http import plain
from tests.bench.load.latencies import Load
from tests.bench.load.wrk import http_load
from tests.bench.traffic import traffic

CONNECTIONS = 8
SIZES = {
    "1k": (1024, "1 KiB", []),
    "64k": (65536, "64 KiB", [Bar(figure="cpu_us", limit=0.8, aim=0.7)]),
    "1m": (2**20, "1 MiB", [Bar(figure="cpu_us", limit=1.0, aim=0.7)]),
}


def get(body_bytes: int, port: int, seconds: float) -> Load:
    return http_load(port, seconds, connections=CONNECTIONS, path=f"/bytes/{body_bytes}")


def post(body_bytes: int, port: int, seconds: float) -> Load:
    return http_load(port, seconds, connections=CONNECTIONS, method="POST", body_bytes=body_bytes)


CASES = [
    Case(
        name=f"{method.__name__}-{name}",
        title=f"{method.__name__.upper()} of {words}, {CONNECTIONS} connections",
        bars=bars,
        start=traffic(plain, partial(method, body_bytes)),
    )
    for method in (get, post)
    for name, (body_bytes, words, bars) in SIZES.items()
]
