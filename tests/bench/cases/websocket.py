"""WebSocket messages: an upgraded connection, whose bytes the proxy passes on."""

from __future__ import annotations

from tests.bench.case import Bar, Case
from tests.bench.documents import cluster, document, http_filter, listener
from tests.bench.load.generator import run_generator
from tests.bench.load.latencies import Load
from tests.bench.site import Site
from tests.bench.traffic import Arrangement, traffic

CONNECTIONS = 32


def websocket(site: Site) -> Arrangement:
    port = site.free_port()
    filter_ = http_filter(upgrade_configs=[{"upgrade_type": "websocket"}])
    return Arrangement(port=port, documents=[document([listener(port, filter_)], [cluster(site.upstream())])])


def messages(port: int, seconds: float) -> Load:
    return run_generator(
        "closed_loop", port=port, seconds=seconds, connections=CONNECTIONS, protocol="websocket"
    )


CASES = [
    Case(
        name="websocket",
        title=f"WebSocket, messages of 64 bytes to and fro, {CONNECTIONS} connections",
        unit="message",
        bars=[Bar(figure="cpu_us", limit=0.8, aim=0.6)],
        start=traffic(websocket, messages),
    )
]
