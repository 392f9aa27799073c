"""Memory of new processes: at rest, with each further worker, and with idle connections."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack

from tests.bench.case import Bar, Case, Figures
from tests.bench.cases.http import plain
from tests.bench.fresh import each_round
from tests.bench.load.generator import ROOT, LoadError
from tests.bench.load.wrk import http_load
from tests.bench.proxies.launch import Kind
from tests.bench.site import Site
from tests.bench.traffic import memory_figures

IDLE = 1000
_SETTLE_S = 1.0


def at_rest(site: Site, kind: Kind) -> Figures:
    """With one worker; the third worker's part, too, which is what each further one costs."""
    measured = {workers: resting(site, kind, workers) for workers in (1, 2, 3)}
    further = measured[3]["private_mib"] - measured[2]["private_mib"]
    return measured[1] | {"private_2_mib": measured[2]["private_mib"], "worker_mib": further}


def resting(site: Site, kind: Kind, workers: int) -> Figures:
    with ExitStack() as stack:
        document = plain(site).documents[0]
        process = kind.start(site, stack, document, workers=workers)
        time.sleep(_SETTLE_S)
        return memory_figures([process.pid])


def with_idle_connections(site: Site, kind: Kind) -> Figures:
    arrangement = plain(site)
    with ExitStack() as stack:
        process = kind.start(site, stack, arrangement.documents[0], workers=site.concurrency)
        http_load(arrangement.port, 1)
        before = memory_figures([process.pid])
        command = [sys.executable, "-m", "tests.bench.load.idle", str(arrangement.port), str(IDLE)]
        client = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        )
        assert client.stdin is not None
        assert client.stdout is not None
        if client.stdout.readline() != b"ready\n":
            raise LoadError(f"{IDLE} idle connections could not be opened")
        time.sleep(_SETTLE_S)
        after = memory_figures([process.pid])
        client.stdin.close()
    grown_kib = (after["private_mib"] - before["private_mib"]) * 1024
    return after | {"connection_kib": grown_kib / IDLE}


CASES = [
    Case(
        name="rest",
        title="memory at rest, in new processes; private is without the pages that others share",
        unit="proxy",
        compared="private_mib",
        bars=[
            Bar(figure="private_mib", limit=38, aim=25, absolute=True),
            Bar(figure="worker_mib", limit=10, aim=6, absolute=True),
        ],
        start=each_round(at_rest),
    ),
    Case(
        name="idle",
        title=f"memory with {IDLE} idle connections",
        unit="proxy",
        compared="resident_mib",
        bars=[Bar(figure="resident_mib", limit=0.7, aim=0.5)],
        start=each_round(with_idle_connections),
    ),
]
