"""Follows the stored signing certificate: mounted files and Secrets may be replaced while a process runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from controlplane.ca.authority import Authority
from controlplane.ca.signer import Signer
from controlplane.errors import RefusedError, SettingsError, UnreachableError

_LOG = logging.getLogger(__name__)


class SignerFollower:
    """``reload`` gives the signer as it is stored now; ``on_change`` is called when the authority uses
    another, and again while it raises `SettingsError`. Where the stored one cannot be read, or cannot sign,
    the one in use stays, and the log says so once."""

    def __init__(
        self,
        authority: Authority,
        reload: Callable[[], Awaitable[Signer]],
        on_change: Callable[[], None],
        *,
        interval_s: float,
    ) -> None:
        self._authority: Final = authority
        self._reload: Final = reload
        self._on_change: Final = on_change
        self._interval_s: Final = interval_s
        self._complaint = ""
        self._told = True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.look()

    async def look(self) -> None:
        try:
            self._take(await self._reload())
        except (SettingsError, UnreachableError, RefusedError) as error:
            if str(error) != self._complaint:
                _LOG.warning("the stored signing certificate cannot be used, the one in use stays: %s", error)
            self._complaint = str(error)
        else:
            self._complaint = ""

    def _take(self, signer: Signer) -> None:
        old = self._authority.signer
        if not signer.is_same_as(old):
            self._authority.use(signer)
            self._told = False
            _LOG.info("certificates are signed by %s from now on", signer.described)
            if not signer.is_trusted_by(old.roots):
                _LOG.warning(
                    "its root was not among the mesh's roots: workloads trust the certificates that it signs "
                    "only after they have renewed their own; add a root before it signs"
                )
        if not self._told:
            self._on_change()
            self._told = True
