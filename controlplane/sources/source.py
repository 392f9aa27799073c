"""What the control plane asks of a source of resources, be it a folder or a cluster."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    async def start(self) -> None:
        """Returns once the store has all that is there now. Raises `SettingsError` if it never can."""

    async def watch(self) -> None:
        """Tells the store of every change until cancelled."""

    async def close(self) -> None:
        """Ends what `start` began, also one that was cancelled or failed."""
