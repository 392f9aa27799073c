"""The ports of the sidecar itself: admin for operators, status for the kubelet, metrics for Prometheus and
for the probes of the application."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.admin.local_clients import LocalClients
from sidecar.admin.local_port import LocalPort, everywhere, report_addresses
from sidecar.admin.server import STATUS_ENDPOINTS, AdminService
from sidecar.admin.state import AdminView
from sidecar.config.bootstrap import Settings
from sidecar.config.endpoint import SocketAddress
from sidecar.http.message import Service
from sidecar.timers import Timers


class LocalPorts:
    """`open` and `close` all of them. Admin listens at the address in the bootstrap file, normally loopback;
    the other two listen on every address. ``metrics`` is the service of the metrics port."""

    def __init__(
        self,
        view: AdminView,
        settings: Settings,
        admin_address: SocketAddress | None,
        timers: Timers,
        *,
        metrics: Service,
    ) -> None:
        wanted: tuple[tuple[str, list[SocketAddress], Service], ...] = (
            ("admin", [] if admin_address is None else [admin_address], LocalClients(AdminService(view))),
            ("status", everywhere(settings.status_port), AdminService(view, STATUS_ENDPOINTS)),
            ("metrics", everywhere(settings.metrics_port), metrics),
        )
        self._ports = [
            (addresses, LocalPort(name, service, timers)) for name, addresses, service in wanted if addresses
        ]
        self._addresses_file = settings.addresses_file

    async def open(self) -> None:
        """Opens the ports, then writes the addresses file in one step. Raises `BootstrapError`."""
        opened = {port.name: str(await port.open(*addresses)) for addresses, port in self._ports}
        report_addresses(opened, self._addresses_file)

    def stats(self) -> Iterator[tuple[str, int]]:
        """As Envoy's statistics of the listener ``admin``."""
        for _, port in self._ports:
            yield f"listener.{port.name}.downstream_cx_overflow", port.overflow

    async def close(self) -> None:
        for _, port in self._ports:
            await port.close()
