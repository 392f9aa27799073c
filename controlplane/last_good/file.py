"""Stores the last good versions of a folder's resources, and the list of the resources in force, in one file
of the state folder. The file is read at the start and replaced atomically at every change."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from controlplane.ca import state_files
from controlplane.errors import ResourceError, SettingsError
from controlplane.last_good.entry import entry_of, key_of, read_entry
from controlplane.model.last_good import LastGood
from controlplane.model.snapshot import MeshSnapshot, ResourceKey, SnapshotChange
from controlplane.model.store import Store

_LOG = logging.getLogger(__name__)

QUARANTINE_FILE: Final = "quarantine.json"

_LAST_GOOD: Final = "lastGood"
_IN_FORCE: Final = "inForce"
_COUNTING_FILES: Final = "countingFiles"

_MOST_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """The content of the file. ``in_force`` are the resources of which some version is in force. ``unusable``
    are stored versions that cannot be used; they are kept unchanged, because another release may be able to
    use them. ``counting_files`` maps each resource that several files contain to the file whose version is
    used."""

    last_good: Mapping[ResourceKey, LastGood] = field(default_factory=dict)
    unusable: Mapping[ResourceKey, object] = field(default_factory=dict)
    in_force: frozenset[ResourceKey] = frozenset()
    counting_files: Mapping[ResourceKey, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        document = {
            _LAST_GOOD: [*map(entry_of, self.last_good.values()), *self.unusable.values()],
            _IN_FORCE: sorted([each.kind, each.namespace, each.name] for each in self.in_force),
            _COUNTING_FILES: sorted(
                [key.kind, key.namespace, key.name, file] for key, file in self.counting_files.items()
            ),
        }
        return json.dumps(document, indent=1).encode("ascii")


class LastGoodFile:
    """Call `load` before the source is read, and `note_build` after each build."""

    def __init__(
        self,
        path: Path,
        store: Store,
        *,
        most_bytes: int = _MOST_BYTES,
        replace: Callable[..., None] = state_files.replace,
    ) -> None:
        self._path: Final = path
        self._store: Final = store
        self._most_bytes: Final = most_bytes
        self._replace: Final = replace
        self._written = _State()
        self._recalled: Final[set[ResourceKey]] = set()
        self._last_warning = ""

    def load(self) -> Mapping[str, set[ResourceKey]]:
        """Gives the stored versions to the store. Returns the resources that each file of the folder
        contained."""
        found = self._read()
        in_force = frozenset(
            ResourceKey(kind=a, namespace=b, name=c) for a, b, c in _rows(found, _IN_FORCE, 3)
        )
        counting_files = {
            ResourceKey(kind=kind, namespace=namespace, name=name): file
            for kind, namespace, name, file in _rows(found, _COUNTING_FILES, 4)
        }
        if _IN_FORCE in found:
            self._store.remember(in_force)
        self._store.prefer(counting_files)
        by_file: dict[str, set[ResourceKey]] = defaultdict(set)
        usable: dict[ResourceKey, LastGood] = {}
        unusable: dict[ResourceKey, object] = {}
        for key, entry in self._entries(found.get(_LAST_GOOD)):
            last_good = read_entry(entry, key)
            self._store.recall(key, last_good)
            self._recalled.add(key)
            if isinstance(last_good, LastGood):
                usable[key] = last_good
                by_file[last_good.file].add(key)
            else:
                _LOG.warning(
                    "%s: the stored version of %s cannot be used: %s", self._path, key, last_good.reason
                )
                unusable[key] = entry
        self._written = _State(
            last_good=usable, unusable=unusable, in_force=in_force, counting_files=counting_files
        )
        return by_file

    def note_build(self, snapshot: MeshSnapshot, change: SnapshotChange) -> None:
        """Writes the file after a build of the store if its content has changed."""
        store = self._store
        last_good, in_force = store.to_keep(), store.keys_in_force()
        unusable = {
            key: entry
            for key, entry in self._written.unusable.items()
            if key not in in_force and store.status(key) is not None
        }
        state = _State(
            last_good=last_good,
            unusable=unusable,
            in_force=in_force,
            counting_files=store.counting_files(),
        )
        if state == self._written:
            return
        for key in self._recalled - last_good.keys() - unusable.keys():
            # The resource has recovered or was deleted: from now on the store's own history is used.
            store.recall(key, None)
            self._recalled.discard(key)
        if self._write(state):
            self._written = state

    def _read(self) -> dict[str, Any]:
        try:
            with self._path.open("rb") as file:
                data = file.read(self._most_bytes + 1)
            if len(data) > self._most_bytes:
                raise ValueError(f"the file is larger than {self._most_bytes} bytes")
            found = json.loads(data)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            _LOG.warning("%s cannot be used, the last good versions in it are lost: %s", self._path, error)
            return {}
        if not isinstance(found, dict):
            _LOG.warning(
                "%s cannot be used, the last good versions in it are lost: not a JSON object", self._path
            )
            return {}
        return found

    def _entries(self, entries: object) -> Iterable[tuple[ResourceKey, object]]:
        """Yields the stored entries with the keys of their resources."""
        for number, entry in enumerate(entries if isinstance(entries, list) else ()):
            try:
                yield key_of(entry), entry
            except ResourceError as error:
                _LOG.warning("%s: %s[%d].resource: %s", self._path, _LAST_GOOD, number, error)

    def _write(self, state: _State) -> bool:
        """Returns whether the file was written."""
        try:
            content = state.encode()
            if len(content) > self._most_bytes:
                raise SettingsError(f"{self._path} would be larger than {self._most_bytes} bytes")
            self._replace(self._path, content, mode=0o600)
        except SettingsError as error:
            if str(error) != self._last_warning:
                self._last_warning = str(error)
                _LOG.warning("a restart would lose last good versions: %s", error)
            return False
        self._last_warning = ""
        return True


def _rows(found: Mapping[str, Any], name: str, length: int) -> Iterable[list[str]]:
    """Yields the lists of exactly ``length`` strings under ``name``; skips malformed ones."""
    rows = found.get(name)
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, list) and len(row) == length and all(isinstance(each, str) for each in row):
            yield row
