"""All cases, in the order in which they run. HTTP/2 and gRPC cases join here."""

from __future__ import annotations

from tests.bench.cases import http, tcp

CASES = {case.name: case for case in [*http.CASES, *tcp.CASES]}
