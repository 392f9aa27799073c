"""All cases, in the order in which they run. HTTP/2 and gRPC cases join here."""

from __future__ import annotations

from tests.bench.cases import (
    bodies,
    connections,
    http,
    large,
    memory,
    mesh,
    routing,
    start,
    steady,
    tcp,
    websocket,
)

CASES = {
    case.name: case
    for case in [
        *http.CASES,
        *mesh.CASES,
        *tcp.CASES,
        *websocket.CASES,
        *bodies.CASES,
        *connections.CASES,
        *routing.CASES,
        *steady.CASES,
        *memory.CASES,
        *large.CASES,
        *start.CASES,
    ]
}
