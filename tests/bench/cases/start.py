"""From the start of the process to its first answer that it is ready."""

from __future__ import annotations

import time
from contextlib import ExitStack

from tests.bench.case import Bar, Case, Figures
from tests.bench.cases.http import plain
from tests.bench.documents import admin_port_of
from tests.bench.fresh import each_round
from tests.bench.proxies import accounting
from tests.bench.proxies.launch import Kind, is_ready
from tests.bench.site import Site


def until_ready(site: Site, kind: Kind) -> Figures:
    document = plain(site).documents[0]
    with ExitStack() as stack:
        start_s = time.perf_counter()
        process = kind.start(site, stack, document, workers=site.concurrency, ready=False)
        while not is_ready(admin_port_of(document)):
            time.sleep(0.002)
        waited_s = time.perf_counter() - start_s
        return {"ready_s": waited_s, "ready_cpu_s": accounting.usage([process.pid]).cpu_ns / 1e9}


CASES = [
    Case(
        name="start",
        title="from the start to ready, with the bootstrap file of the case http1",
        unit="proxy",
        compared="ready_s",
        bars=[Bar(figure="ready_s", limit=0.5, absolute=True)],
        start=each_round(until_ready),
    )
]
