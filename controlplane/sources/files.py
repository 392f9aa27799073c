"""A folder of YAML files as the source of resources. It is read at the start and watched for changes.

The last good resources of a file that becomes unreadable or invalid stay in force.
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

# The folder is also scanned at this interval: some file systems send no notifications, and changes before the
# watch began cause none.
_LOOK_INTERVAL_S = 1.0
# Files that are written together are read together: after a quiet period of _QUIET_MS, at the latest after
# _LONGEST_WAIT_MS.
_QUIET_MS = 20
_LONGEST_WAIT_MS = 200


Unsupported = tuple[ForeignKind, ResourceName]


class OnUnsupported(Protocol):
    def __call__(
        self, kind: ForeignKind, *, present: Collection[ResourceName], gone: Collection[ResourceName]
    ) -> None: ...


def _ignore(kind: ForeignKind, *, present: Collection[ResourceName], gone: Collection[ResourceName]) -> None:
    pass


class FolderSource:
    """Updates a store from the ``*.yaml`` and ``*.yml`` files of a folder. ``on_change`` is called on the
    event loop after each update of the store. ``had`` maps files to the resources that they contained in an
    earlier process; such a resource stays in force if its file is faulty now. ``on_unsupported`` is called
    with the resources of unsupported kinds that appeared or disappeared."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        on_change: Callable[[], None],
        *,
        had: Mapping[str, Set[ResourceKey]] = MappingProxyType({}),
        on_unsupported: OnUnsupported = _ignore,
    ) -> None:
        self._folder = folder.absolute()
        self._store = store
        self._on_change = on_change
        self._signatures: dict[str, Signature] = {}
        self._keys = {name: set(keys) for name, keys in had.items()}  # the resources of each file
        self._on_unsupported = on_unsupported
        self._unsupported: dict[str, set[Unsupported]] = {}  # by file

    def load(self) -> None:
        """Reads the whole folder. Raises `SettingsError` if it does not exist or cannot be read."""
        if not self._folder.is_dir():
            raise SettingsError(f"the resource folder {self._folder} does not exist, or is not a folder")
        if unreadable := list_files(self._folder).unreadable.get("."):
            raise SettingsError(f"the resource folder {self._folder} cannot be read: {unreadable.strerror}")
        if self._take(self._read_changed(frozenset())):
            self._on_change()

    async def start(self) -> None:
        """Implements `Source.start` with `load`."""
        self.load()

    async def close(self) -> None:
        """Has no effect: only `watch` holds resources, and releases them when it is cancelled."""

    async def watch(self) -> None:
        """Watches the folder until cancelled."""
        async with aclosing(self._notifications()) as notifications:
            async for touched in notifications:
                # Parsing a large file takes long, so it does not run on the event loop.
                contents = await asyncio.to_thread(self._read_changed, touched)
                if self._take(contents):
                    self._on_change()

    async def _notifications(self) -> AsyncGenerator[Collection[str], None]:
        """Yields the changed paths of each notification, and an empty collection at each scan interval."""
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
            _LOG.warning("cannot watch %s (%s): scanning it every second", self._folder, error)
        while True:
            yield ()
            await asyncio.sleep(_LOOK_INTERVAL_S)

    def _read_changed(self, touched: Collection[str]) -> list[Contents]:
        """Returns the contents of the changed files. Deleted files have empty contents."""
        listing = list_files(self._folder)
        present = self._read_unreadable(listing)
        gone = [Contents(name=name) for name in self._forget_missing(listing)]
        for name, signature in sorted(listing.files.items()):
            changed = signature != self._signatures.get(name)
            # A file that is written twice within the resolution of its timestamp can have the same signature.
            if changed or str(self._folder / name) in touched:
                self._signatures[name] = signature
                contents = read_file(self._folder, name)
                if contents is not None:
                    present.append(contents)
        # Deletions come last, so that a resource that moves to another file is never absent.
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
        """An unreadable subfolder is a separate error; the known contents of its files stay."""
        faults = []
        for name, error in listing.unreadable.items():
            if name not in self._signatures:
                self._signatures[name] = UNREADABLE
                reason = f"cannot be read: {error.strerror or error}"
                faults.append(Contents(name=name, faults=[ResourceError("", reason)], doubt=reason))
        return faults

    def _take(self, readings: Collection[Contents]) -> bool:
        """Updates the store with the contents of the files. Returns whether there were any."""
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
            reason = f"not found in {name}: {contents.doubt}"
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
        """Errors that do not belong to a resource get a status of the file itself."""
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
