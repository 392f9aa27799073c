"""``/server_info``, and the ``server.*`` statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from sidecar.admin.state import ServerState
from sidecar.build_info import COMPILED, VERSION
from sidecar.config.bootstrap import Bootstrap, Settings

# ``envoy.admin.v3.ServerInfo.State`` as a number.
_STATE_NUMBERS = {state: number for number, state in enumerate(ServerState)}
_SECRET_SETTINGS = frozenset({"token", "app_probers"})
_SECONDS_A_DAY = 24 * 3600
# As Envoy's: revision/version/status of the sources/build/TLS library.
_VERSION = f"outrigger/{VERSION}/Clean/{'compiled' if COMPILED else 'python'}/OpenSSL"


class ServerInfo:
    """Version, state, uptime and options of the process."""

    def __init__(
        self,
        settings: Settings,
        bootstrap: Bootstrap,
        state: Callable[[], ServerState],
        *,
        seconds_until_expiry: Callable[[], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._bootstrap = bootstrap
        self._state = state
        self._seconds_until_expiry = seconds_until_expiry
        self._clock = clock
        self._start_s = clock()

    def document(self) -> dict[str, Any]:
        """In the shape of ``envoy.admin.v3.ServerInfo``."""
        uptime = f"{int(self._clock() - self._start_s)}s"
        return {
            "version": _VERSION,
            "state": self._state().value,
            "uptime_current_epoch": uptime,
            "uptime_all_epochs": uptime,
            "hot_restart_version": "disabled",
            "command_line_options": self._command_line_options(),
            "node": self._bootstrap.node_document,
        }

    def _command_line_options(self) -> dict[str, Any]:
        """The fields of ``CommandLineOptions`` that exist here, and the sidecar's own settings."""
        options = {
            field.name: value if isinstance(value, int | float) else str(value)
            for field in fields(self._settings)
            if (value := getattr(self._settings, field.name)) is not None
            and field.name not in _SECRET_SETTINGS
        }
        return {**options, "drain_time": f"{self._settings.drain_time_s:g}s"}

    def stats(self) -> Iterator[tuple[str, int]]:
        yield "server.live", int(self._state() is ServerState.LIVE)
        yield "server.state", _STATE_NUMBERS[self._state()]
        yield "server.uptime", int(self._clock() - self._start_s)
        yield "server.concurrency", self._settings.concurrency
        left_s = self._seconds_until_expiry()
        if left_s is not None:
            yield "server.days_until_first_cert_expiring", int(left_s // _SECONDS_A_DAY)
            yield "server.seconds_until_first_cert_expiring", int(left_s)
