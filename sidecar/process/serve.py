"""A sidecar that runs until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from sidecar.build_info import COMPILED
from sidecar.config.bootstrap import Bootstrap, Settings
from sidecar.listener.faults import quiet_peer_faults
from sidecar.process.supervisor import Supervisor

_LOG = logging.getLogger(__name__)

_NOT_COMPILED: Final = (
    "the data path is not compiled: each request takes about twice the CPU (install it where a C compiler is)"
)


async def serve(settings: Settings, bootstrap: Bootstrap, control: socket.socket | None = None) -> None:
    """Runs until SIGTERM has drained it, or until SIGINT or ``/quitquitquit``. Raises `BootstrapError` for
    settings that cannot be served, and `IdentityRefusedError` when the CA refuses the workload. ``control``
    leads to the master process; None: the only worker is in this process."""
    supervisor = Supervisor(settings, bootstrap, control)
    if not COMPILED:
        _LOG.info(_NOT_COMPILED)
    loop = asyncio.get_running_loop()
    quiet_peer_faults(loop)
    loop.add_signal_handler(signal.SIGTERM, supervisor.drain_and_stop)
    loop.add_signal_handler(signal.SIGINT, supervisor.stop)
    actions: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGUSR1: supervisor.reopen_logs_soon,
        signal.SIGHUP: lambda: _LOG.info("SIGHUP is ignored"),
    }
    # Not with the loop's handlers: the loop resets them to the default when it closes, and the default kills
    # a process that is ending.
    before = {
        number: signal.signal(number, partial(_call_soon, loop, action)) for number, action in actions.items()
    }
    try:
        await supervisor.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        await supervisor.close()


def _call_soon(
    loop: asyncio.AbstractEventLoop, action: Callable[[], None], _number: int, _frame: object
) -> None:
    loop.call_soon_threadsafe(action)
