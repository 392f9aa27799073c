"""A whole hop with everything that a mesh has on; see `tests.bench.mesh` for the differences."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from tests.bench.case import Bar, Case, Contender
from tests.bench.load.wrk import http_load
from tests.bench.mesh import mesh_hop
from tests.bench.proxies.launch import Kind
from tests.bench.site import Site
from tests.bench.traffic import WARM_UP_S, contender, traffic


def start(site: Site, stack: ExitStack, *, logged: bool) -> Sequence[Contender]:
    """With one more Envoy from the same files as the sidecars, which does not count Istio's metrics."""
    arrange = partial(mesh_hop, logged=logged)
    contenders = traffic(arrange, http_load)(site, stack)
    arrangement, kind = arrange(site), Kind(name="Envoy, without Istio's metrics")
    processes = [
        kind.start(site, stack, document, workers=site.concurrency) for document in arrangement.documents
    ]
    bare = contender(kind.name, processes, arrangement.port, http_load)
    bare.measure(WARM_UP_S)
    return [*contenders, bare]


CASES = [
    Case(
        name=name,
        title="two proxies with mutual TLS, Istio's metrics and labels, retries, outlier detection, " + words,
        bars=[Bar(figure="cpu_us", limit=0.75, aim=0.6)],
        start=partial(start, logged=logged),
    )
    for name, logged, words in (("mesh", False, "no access log"), ("mesh-logged", True, "access log"))
]
