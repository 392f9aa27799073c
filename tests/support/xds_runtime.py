"""A sidecar's xDS client that follows a control plane of the test, and serves what it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from sidecar.bootstrap import Bootstrap
from sidecar.config.snapshot import EMPTY_SNAPSHOT, Snapshot
from sidecar.errors import ConfigError
from sidecar.xds.client import XdsClient
from tests.support.ads_follower import no_delay
from tests.support.ads_server import TIMEOUT_S


class Runtime:
    """Takes snapshots as the data path would, and lets a test wait for one."""

    def __init__(self) -> None:
        self.snapshot = EMPTY_SNAPSHOT
        self.history: list[Snapshot] = []
        self.refuses: dict[str, str] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, snapshot: Snapshot) -> Mapping[str, ConfigError]:
        for name, reason in self.refuses.items():
            if name in snapshot.listeners:
                raise ConfigError(f"listeners[{name}].address", reason)
        self.snapshot = snapshot
        self.history.append(snapshot)
        task = asyncio.ensure_future(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return {}

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, ready: Callable[[Snapshot], object]) -> Snapshot:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: ready(self.snapshot)), TIMEOUT_S)
        return self.snapshot


@asynccontextmanager
async def running(
    boot: Bootstrap, runtime: Runtime, *, cache_dir: Path | None = None, **options: Any
) -> AsyncIterator[XdsClient]:
    client = XdsClient(boot, runtime, cache_dir=cache_dir, sleep=no_delay, **options)
    task = asyncio.create_task(client.run(), name="xds-client")
    try:
        yield client
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
