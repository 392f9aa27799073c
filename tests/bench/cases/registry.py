"""All cases, in the order in which they run."""

from __future__ import annotations

from tests.bench.cases import (
    bodies,
    connections,
    grpc,
    http,
    http2,
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
        *http2.CASES,
        *grpc.CASES,
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
