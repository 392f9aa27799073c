"""A whole hop with everything that a mesh has on; see `tests.bench.mesh` for the differences."""

from __future__ import annotations

from functools import partial

from tests.bench.case import Bar, Case
from tests.bench.load.wrk import http_load
from tests.bench.mesh import mesh_hop
from tests.bench.traffic import traffic

CASES = [
    Case(
        name=name,
        title="two proxies with mutual TLS, Istio's metrics and labels, retries, outlier detection, " + words,
        bars=[Bar(figure="cpu_us", limit=0.75, aim=0.6)],
        start=traffic(partial(mesh_hop, logged=logged), http_load),
    )
    for name, logged, words in (("mesh", False, "no access log"), ("mesh-logged", True, "access log"))
]
