"""The ports of the sidecar itself: admin for operators, status for the kubelet, metrics for Prometheus."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from sidecar.admin.local_clients import LocalClients
from sidecar.admin.local_port import LocalPort
from sidecar.admin.server import METRICS_ENDPOINTS, STATUS_ENDPOINTS, AdminService
from sidecar.admin.state import AdminView
from sidecar.config.bootstrap import Settings
from sidecar.config.endpoint import SocketAddress
from sidecar.errors import BootstrapError
from sidecar.http.message import Service
from sidecar.timers import Timers

EVERYWHERE = "0.0.0.0"

_LOG = logging.getLogger(__name__)


class LocalPorts:
    """`open` and `close` all of them. Admin listens at the address in the bootstrap file, normally loopback;
    the other two are read-only and listen on every address."""

    def __init__(
        self, view: AdminView, settings: Settings, admin_address: SocketAddress | None, timers: Timers
    ) -> None:
        wanted: tuple[tuple[str, SocketAddress | None, Service], ...] = (
            ("admin", admin_address, LocalClients(AdminService(view))),
            ("status", _everywhere(settings.status_port), AdminService(view, STATUS_ENDPOINTS)),
            ("metrics", _everywhere(settings.metrics_port), AdminService(view, METRICS_ENDPOINTS)),
        )
        self._ports = [
            (name, address, LocalPort(name, service, timers))
            for name, address, service in wanted
            if address is not None
        ]
        self._addresses_file = settings.addresses_file

    async def open(self) -> None:
        """Opens the ports, then writes the addresses file in one step. Raises `BootstrapError`."""
        opened = {name: str(await port.open(address)) for name, address, port in self._ports}
        _LOG.info("open: %s", ", ".join(f"{name} on {address}" for name, address in opened.items()))
        if self._addresses_file is not None:
            _write(self._addresses_file, json.dumps(opened) + "\n")

    async def close(self) -> None:
        for _, _, port in self._ports:
            await port.close()


def _everywhere(port: int | None) -> SocketAddress | None:
    return None if port is None else SocketAddress(EVERYWHERE, port)


def _write(file: Path, text: str) -> None:
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.write_text(text)
        unfinished.replace(file)
    except OSError as error:
        raise BootstrapError(f"addresses file {file}: cannot be written: {error.strerror}") from error
