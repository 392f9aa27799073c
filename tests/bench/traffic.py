"""Cases that send load through a proxy, or through two in a row, of each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.case import Contender, Figures
from tests.bench.documents import Document
from tests.bench.load.latencies import Load
from tests.bench.proxies import accounting
from tests.bench.proxies.launch import kinds
from tests.bench.proxies.orientation import Simple, start_others
from tests.bench.site import Site
from tests.support.processes import Child

WARM_UP_S = 1.0
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """The proxies of one contender: a bootstrap file for each, and the port that the load goes to.
    `for_envoy`: Envoy's files, where they cannot be the same. `simple` describes the work for proxies that do
    not read such files, where they can do it."""

    port: int
    documents: Sequence[Document]
    for_envoy: Sequence[Document] | None = None
    simple: Simple | None = None


def traffic(
    arrange: Callable[[Site], Arrangement], load: Callable[[int, float], Load]
) -> Callable[[Site, ExitStack], Sequence[Contender]]:
    """For `Case.start`. `load` takes a port and seconds."""

    def start(site: Site, stack: ExitStack) -> Sequence[Contender]:
        contenders = [
            contender(name, processes, arrangement.port, load)
            for name, processes, arrangement in start_proxies(site, stack, arrange)
        ]
        simple = arrange(site).simple
        if simple is not None:
            contenders += [
                contender(name, [process], port, load)
                for name, process, port in start_others(site, stack, simple)
            ]
        for one in contenders:
            one.measure(WARM_UP_S)
        return contenders

    return start


def start_proxies(
    site: Site, stack: ExitStack, arrange: Callable[[Site], Arrangement]
) -> list[tuple[str, list[Child], Arrangement]]:
    """Envoy first, then each build of the sidecar, by their names."""
    started = []
    for kind in kinds(site):
        arrangement = arrange(site)
        documents = arrangement.documents
        if kind.build is None and arrangement.for_envoy is not None:
            documents = arrangement.for_envoy
        processes = [kind.start(site, stack, document, workers=site.concurrency) for document in documents]
        started.append((kind.name, processes, arrangement))
    return started


def contender(
    name: str, processes: Sequence[Child], port: int, load: Callable[[int, float], Load]
) -> Contender:
    roots = [process.pid for process in processes]

    def measure(seconds: float) -> Figures:
        before = accounting.usage(roots)
        done = load(port, seconds)
        return figures(done, accounting.usage(roots).since(before)) | memory_figures(roots)

    return Contender(name=name, measure=measure, roots=roots)


def figures(load: Load, used: accounting.Usage) -> Figures:
    measured = {
        "cpu_us": used.cpu_ns / load.done / 1000,
        "per_s": load.done / load.seconds,
        "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms,
        "p999_ms": load.p999_ms,
        "worst_ms": load.worst_ms,
        "switches": used.switches / load.done,
        "cpu_percent": used.cpu_ns / 1e7 / load.seconds,
    }
    if load.resumed is not None:
        measured["resumed_percent"] = 100 * load.resumed / load.done
    return measured


def memory_figures(roots: Sequence[int]) -> Figures:
    memory = accounting.memory(roots)
    return {
        "resident_mib": memory.resident_bytes / _MIB,
        "private_mib": memory.private_bytes / _MIB,
        "proportional_mib": memory.proportional_bytes / _MIB,
    }
