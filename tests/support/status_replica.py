"""Control planes that follow a cluster and write statuses with a short lease: in the test's own event loop,
and as processes that can be killed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from prometheus_client.parser import text_string_to_metric_families

from controlplane.kubernetes.backoff import Backoff
from controlplane.kubernetes.lease import LeaseTiming
from controlplane.runtime import ControlPlane, serve
from controlplane.settings import read_settings
from controlplane.status.writer import StatusTiming
from tests.support.control_plane import FREE_PORTS
from tests.support.pods import OPENER
from tests.support.processes import Child, child

# The duration of a Lease is in whole seconds.
QUICK = StatusTiming(
    look_s=0.1,
    patience_s=1.0,
    reconnect_s=0.0,
    backoff=Backoff(first_delay_s=0.05, longest_delay_s=0.5),
    lease=LeaseTiming(duration_s=3.0, renew_deadline_s=2.0, retry_s=0.2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """``HOST:PORT`` of the ports that the tests use."""

    xds: str
    debug: str
    metrics: str

    def metric(self, name: str) -> float:
        """Returns the sum of all samples with the name."""
        with OPENER.open(f"http://{self.metrics}/metrics", timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return sum(each.value for family in families for each in family.samples if each.name == name)

    @property
    def leads(self) -> bool:
        return self.metric("outrigger_status_leader") == 1

    @property
    def snapshots(self) -> float:
        """How often anything was pushed, were there only proxies."""
        return self.metric("pilot_push_triggers_total")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaProcess(Replica):
    process: Child


def arguments(kubeconfig: Path, namespace: str, folder: Path) -> list[str]:
    source = ["--source", "kubernetes", "--kubeconfig", str(kubeconfig), "--system-namespace", namespace]
    return [*source, "--state-dir", str(folder), "--addresses-file", str(folder / "addresses"), *FREE_PORTS]


@asynccontextmanager
async def replica(
    kubeconfig: Path, namespace: str, folder: Path, timing: StatusTiming = QUICK
) -> AsyncIterator[Replica]:
    """Stops normally."""
    folder.mkdir(exist_ok=True)
    plane = ControlPlane(read_settings(arguments(kubeconfig, namespace, folder), {}), timing)
    stop = asyncio.Event()
    try:
        await plane.start()
        following = asyncio.create_task(plane.follow(stop), name="follow")
        yield _replica(folder)
        stop.set()
        await following
    finally:
        await plane.close()


@contextmanager
def replica_process(kubeconfig: Path, namespace: str, folder: Path) -> Iterator[ReplicaProcess]:
    folder.mkdir(exist_ok=True)
    flags = arguments(kubeconfig, namespace, folder)
    with child([sys.executable, "-m", "tests.support.status_replica", *flags], folder / "log") as process:
        process.wait_for((folder / "addresses").exists, "the control plane is ready")
        found = _replica(folder)
        yield ReplicaProcess(xds=found.xds, debug=found.debug, metrics=found.metrics, process=process)


def _replica(folder: Path) -> Replica:
    addresses = json.loads((folder / "addresses").read_text())
    return Replica(xds=addresses["xds"], debug=addresses["debug"], metrics=addresses["metrics"])


if __name__ == "__main__":
    uvloop.run(serve(read_settings(sys.argv[1:]), QUICK))
