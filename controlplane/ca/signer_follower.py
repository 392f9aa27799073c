"""Watches the stored signing certificate: mounted files and Secrets can change while the process runs."""

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
    """Gives the authority the signer that is stored. ``reload`` reads it. ``on_change`` is called after the
    authority's signer has changed; if it raises `SettingsError`, it is called again at the next interval.
    When the stored signer cannot be read or cannot sign, the current one stays in use, and a warning is
    logged once."""

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
        self._last_warning = ""
        self._told = True

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.look()

    async def look(self) -> None:
        try:
            self._take(await self._reload())
        except (SettingsError, UnreachableError, RefusedError) as error:
            if str(error) != self._last_warning:
                _LOG.warning(
                    "the stored signing certificate cannot be used; the current one stays in use: %s", error
                )
            self._last_warning = str(error)
        else:
            self._last_warning = ""

    def _take(self, signer: Signer) -> None:
        old = self._authority.signer
        if not signer.is_same_as(old):
            self._authority.use(signer)
            self._told = False
            _LOG.info("new certificates are signed by %s", signer.described)
            if not signer.is_trusted_by(old.roots):
                _LOG.warning(
                    "the root of the new signing certificate was not in the trust bundle: workloads trust "
                    "its certificates only after they renew their own; add a root before you sign with it"
                )
        if not self._told:
            self._on_change()
            self._told = True
