"""The one replica that writes statuses: elected by a Lease in the control plane's own namespace."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry

from controlplane.kubernetes.api import KubernetesApi
from controlplane.kubernetes.lease import Election
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.status.ledger import Ledger
from controlplane.status.metrics import StatusMetrics
from controlplane.status.writer import StatusInputs, StatusTiming, StatusWriter

LEASE: Final = "outrigger-status-writer"


class ElectedWriter:
    """``ledger`` must be kept up to date from the start, whether this replica leads or not."""

    def __init__(
        self,
        api: KubernetesApi,
        namespace: str,
        inputs: StatusInputs,
        *,
        registry: CollectorRegistry,
        timing: StatusTiming,
    ) -> None:
        self.ledger: Final = Ledger()
        self._api: Final = api
        self._namespace: Final = namespace
        self._inputs: Final = inputs
        self._metrics: Final = StatusMetrics(registry)
        self._timing: Final = timing

    def note_build(self, snapshot: MeshSnapshot, change: SnapshotChange) -> None:
        """The store was built."""
        self.ledger.publish(snapshot, change, self._inputs.in_force)

    async def run(self) -> None:
        """Takes part in the election, and writes while it leads, until cancelled; then another replica takes
        over at once."""
        writer = StatusWriter(self._api, self.ledger, self._inputs, self._metrics, timing=self._timing)
        election = Election(
            self._api,
            namespace=self._namespace,
            name=LEASE,
            timing=self._timing.lease,
            on_leading=self._metrics.leader.set,
        )
        await election.run(writer.run)
