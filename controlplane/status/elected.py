"""The one replica that writes statuses: elected by a Lease in the control plane's own namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from controlplane.kubernetes.lease import Election
from controlplane.status.ledger import Ledger
from controlplane.status.metrics import StatusMetrics
from controlplane.status.writer import StatusTiming, StatusWriter, World

LEASE: Final = "outrigger-status-writer"


class ElectedWriter:
    """``ledger`` is to be kept up to date from the start on, whoever leads."""

    def __init__(
        self,
        kubeconfig: Path | None,
        namespace: str,
        world: World,
        *,
        registry: CollectorRegistry,
        timing: StatusTiming,
    ) -> None:
        """``kubeconfig`` None: as a pod of the cluster."""
        self.ledger: Final = Ledger()
        self._kubeconfig: Final = kubeconfig
        self._namespace: Final = namespace
        self._world: Final = world
        self._metrics: Final = StatusMetrics(registry)
        self._timing: Final = timing

    async def run(self) -> None:
        """Stands for election, and writes while elected, until cancelled; then the next may begin at once.

        Raises `SettingsError` where the configuration cannot be used.
        """
        # Heavy, and a control plane that follows a folder imports this module too.
        from controlplane.kubernetes.api import ClientApi  # noqa: PLC0415

        api = await ClientApi.connect(self._kubeconfig)
        try:
            writer = StatusWriter(api, self.ledger, self._world, self._metrics, timing=self._timing)
            election = Election(
                api,
                namespace=self._namespace,
                name=LEASE,
                timing=self._timing.lease,
                on_leading=self._metrics.leader.set,
            )
            await election.run(writer.run)
        finally:
            await api.close()
