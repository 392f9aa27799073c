"""What must be true of a sidecar when nothing is under way any more: gauges, descriptors, memory, log."""

from __future__ import annotations

import re
from statistics import median

from tests.support.process_tree import ProcessTree, descriptors
from tests.support.running_sidecar import RunningSidecar

_UNDER_WAY = re.compile(r"(_active|streams_active|pending_send_bytes)$")
# The sidecar's own stream to the control plane, the readers of this test, and counts of configured things.
_NOT_TRAFFIC = re.compile(r"^(cluster\.xds|http\.admin|listener\.admin|listener_manager\.total_listeners)")
_HOST_ACTIVE = re.compile(r"^(?!xds::)(\S+::(?:cx|rq)_active)::([1-9]\d*)$", re.MULTILINE)
_COMPLAINT = re.compile(r"Traceback|never retrieved|\[(?:critical|error)\]|unhandled", re.IGNORECASE)
MOST_GROWTH = 0.10
LEAST_GROWTH_BYTES = 6 * 1024 * 1024
FEWEST_SAMPLES = 120
"""Memory is judged in longer runs: until then, caches fill."""


def under_way(sidecar: RunningSidecar) -> dict[str, int]:
    """The gauges that count something, by name."""
    found = {}
    for line in sidecar.ask("/stats").body.splitlines():
        name, _, value = line.partition(": ")
        if _UNDER_WAY.search(name) and not _NOT_TRAFFIC.search(name) and value != "0":
            found[name] = int(value)
    for name, count in _HOST_ACTIVE.findall(sidecar.ask("/clusters").body):
        found[name] = int(count)
    return found


def processes(sidecar: RunningSidecar) -> list[int]:
    return ProcessTree(sidecar.process.pid).all


def open_descriptors(sidecar: RunningSidecar) -> int:
    return sum(descriptors(pid) for pid in processes(sidecar))


def resident_bytes(sidecar: RunningSidecar) -> int:
    pages = 0
    for pid in processes(sidecar):
        with open(f"/proc/{pid}/statm") as statm:
            pages += int(statm.read().split()[1])
    return pages * 4096


def growth(samples: list[int]) -> int:
    """By how much the last quarter of the samples is above the second; bytes. 0 while there are few."""
    if len(samples) < FEWEST_SAMPLES:
        return 0
    quarter = len(samples) // 4
    return int(median(samples[-quarter:]) - median(samples[quarter : 2 * quarter]))


def grows(samples: list[int]) -> bool:
    increase = growth(samples)
    return increase > LEAST_GROWTH_BYTES and increase > MOST_GROWTH * median(samples)


def complaints(sidecar: RunningSidecar) -> list[str]:
    return [line for line in sidecar.process.output.splitlines() if _COMPLAINT.search(line)]
