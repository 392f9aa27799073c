"""A folder of YAML as the source of resources: read at the start, and followed as it changes.

A file that cannot be read, or that is no YAML, takes nothing out of force: its last good resources stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Set
from contextlib import aclosing
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from watchfiles import awatch

from controlplane.errors import ResourceError, SettingsError, UnsupportedKindError
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import FILE, Origin
from controlplane.model.store import Store
from controlplane.resources.foreign import ForeignKind
from controlplane.sources.folder import UNREADABLE, Contents, Listing, Signature, list_files, read_file
from controlplane.sources.foreign_resources import ResourceName

_LOG = logging.getLogger(__name__)

# The folder is looked through this often even without a notification: a file system may send none, and
# none is sent for what changed before the watch began.
_LOOK_INTERVAL_S = 1.0
# Files that are written together are read together, after a quiet moment; the longest wait for one.
_QUIET_MS = 20
_LONGEST_WAIT_MS = 200


Unsupported = tuple[ForeignKind, ResourceName]


class OnUnsupported(Protocol):
    def __call__(
        self, kind: ForeignKind, *, present: Collection[ResourceName], gone: Collection[ResourceName]
    ) -> None: ...


def _tell_nobody(
    kind: ForeignKind, *, present: Collection[ResourceName], gone: Collection[ResourceName]
) -> None:
    pass


class FolderSource:
    """Feeds a store from the ``*.yaml`` and ``*.yml`` files of a folder. ``on_change`` is called on the event
    loop whenever the store was told something; to build from it is the caller's. ``had``: resources that
    files brought to another process before, and may still mean where they are faulty now. ``on_unsupported``
    is told of resources of kinds that are not supported."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        on_change: Callable[[], None],
        *,
        had: Mapping[str, Set[ResourceKey]] = MappingProxyType({}),
        on_unsupported: OnUnsupported = _tell_nobody,
    ) -> None:
        self._folder = folder.absolute()
        self._store = store
        self._on_change = on_change
        self._signatures: dict[str, Signature] = {}
        self._keys = {name: set(keys) for name, keys in had.items()}  # what each file brought
        self._on_unsupported = on_unsupported
        self._unsupported: dict[str, set[Unsupported]] = {}  # the same

    def load(self) -> None:
        """Reads the whole folder. Raises `SettingsError` if there is none that can be read."""
        if not self._folder.is_dir():
            raise SettingsError(f"the resource folder {self._folder} does not exist, or is no folder")
        if unreadable := list_files(self._folder).unreadable.get("."):
            raise SettingsError(f"the resource folder {self._folder} cannot be read: {unreadable.strerror}")
        if self._take(self._read_changed(frozenset())):
            self._on_change()

    async def start(self) -> None:
        """As `load`: what a control plane awaits of any source."""
        self.load()

    async def close(self) -> None:
        """Nothing is held but while watching."""

    async def watch(self) -> None:
        """Follows the folder until cancelled."""
        async with aclosing(self._notifications()) as notifications:
            async for touched in notifications:
                # Parsing a large file takes long: it must not keep the event loop from serving.
                contents = await asyncio.to_thread(self._read_changed, touched)
                if self._take(contents):
                    self._on_change()

    async def _notifications(self) -> AsyncGenerator[Collection[str], None]:
        """The paths that changed, as far as the system tells; none when it is time to look anyway."""
        changes = awatch(
            self._folder,
            watch_filter=None,
            debounce=_LONGEST_WAIT_MS,
            step=_QUIET_MS,
            rust_timeout=int(_LOOK_INTERVAL_S * 1000),
            yield_on_timeout=True,
        )
        try:
            async with aclosing(changes):
                async for batch in changes:
                    yield {path for _, path in batch}
        except (OSError, RuntimeError) as error:
            _LOG.warning("%s sends no notifications (%s): looking every second", self._folder, error)
        while True:
            yield ()
            await asyncio.sleep(_LOOK_INTERVAL_S)

    def _read_changed(self, touched: Collection[str]) -> list[Contents]:
        """What the files say that changed; those that are gone say nothing."""
        listing = list_files(self._folder)
        present = self._read_unreadable(listing)
        gone = [Contents(name=name) for name in self._forget_missing(listing)]
        for name, signature in sorted(listing.files.items()):
            changed = signature != self._signatures.get(name)
            # A file that is written twice within a tick of the clock may keep its signature.
            if changed or str(self._folder / name) in touched:
                self._signatures[name] = signature
                contents = read_file(self._folder, name)
                if contents is not None:
                    present.append(contents)
        # What moved from one file to another is never absent in between.
        return present + gone

    def _forget_missing(self, listing: Listing) -> list[str]:
        missing = [
            name
            for name in self._signatures
            if name not in listing.files and name not in listing.unreadable and not listing.may_hold(name)
        ]
        for name in missing:
            del self._signatures[name]
        return missing

    def _read_unreadable(self, listing: Listing) -> list[Contents]:
        """A folder that cannot be read is a fault of its own; its files stay as they were."""
        faults = []
        for name, error in listing.unreadable.items():
            if name not in self._signatures:
                self._signatures[name] = UNREADABLE
                reason = f"cannot be read: {error.strerror or error}"
                faults.append(Contents(name=name, faults=[ResourceError("", reason)], doubt=reason))
        return faults

    def _take(self, readings: Collection[Contents]) -> bool:
        """Tells the store what the files say now. Returns whether there was anything to tell."""
        before = self._all_unsupported()
        for contents in readings:
            self._take_file(contents)
        self._tell_unsupported(before, self._all_unsupported())
        return bool(readings)

    def _take_file(self, contents: Contents) -> None:
        name = contents.name
        for key, (resource, origin) in contents.resources.items():
            self._store.apply(key, resource, origin)
        for key, (errors, origin) in contents.rejected.items():
            self._store.reject(key, errors, origin)
        self._take_faults(contents)
        unsupported = set(_unsupported(contents))
        if contents.doubt:
            unsupported |= self._unsupported.get(name, set())
        self._unsupported[name] = unsupported
        if not unsupported:
            del self._unsupported[name]
        found = contents.resources.keys() | contents.rejected.keys()
        missing = self._keys.pop(name, set()) - found
        meant = {key for key in missing if contents.doubt and self._store.knows_good(key)}
        for key in meant:
            reason = f"cannot be found in {name}: {contents.doubt}"
            self._store.reject(key, (ResourceError("", reason),), Origin(file=name))
        for key in missing - meant:
            self._store.delete(key, name)
        if kept := found | meant:
            self._keys[name] = set(kept)

    def _all_unsupported(self) -> set[Unsupported]:
        return set().union(*self._unsupported.values())

    def _tell_unsupported(self, before: Set[Unsupported], after: Set[Unsupported]) -> None:
        for kind in {kind for kind, _ in before ^ after}:
            present = {name for each, name in after - before if each == kind}
            gone = {name for each, name in before - after if each == kind}
            self._on_unsupported(kind, present=present, gone=gone)

    def _take_faults(self, contents: Contents) -> None:
        """The faults that belong to no resource have the file's own status."""
        key = ResourceKey(kind=FILE, namespace="", name=contents.name)
        if contents.faults:
            self._store.reject(key, contents.faults, Origin(file=contents.name))
        else:
            self._store.delete(key, contents.name)


def _unsupported(contents: Contents) -> Iterator[Unsupported]:
    for key, (errors, _) in contents.rejected.items():
        for error in errors:
            if isinstance(error, UnsupportedKindError):
                yield ForeignKind(group=error.group, name=error.kind), (key.namespace, key.name)
