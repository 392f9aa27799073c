"""The interface of a source of resources: a folder or a cluster."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    async def start(self) -> None:
        """Returns once the store has all current resources. Raises `SettingsError` if the source cannot be
        used."""

    async def watch(self) -> None:
        """Updates the store with every change until cancelled."""

    async def close(self) -> None:
        """Releases what `start` acquired, also after a `start` that was cancelled or failed."""
