"""Follows one collection of a Kubernetes API server: lists it, watches its changes, and lists it again from
time to time.

It works for any kind: objects are dictionaries, identified by namespace and name. It passes on each version
of an object once, in order. A new list finds changes that a watch missed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Final

from controlplane.errors import KubernetesError, RefusedError, UnreachableError
from controlplane.kubernetes.api import Document, Reader
from controlplane.kubernetes.backoff import Backoff, jittered_s

_LOG = logging.getLogger(__name__)

_NOT_FOUND: Final = 404
_GONE: Final = 410
_ALL: Final[Mapping[str, str]] = MappingProxyType({})

_BACKOFF: Final = Backoff()

ObjectName = tuple[str, str]  # namespace (empty for a cluster-scoped object) and name


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """``present`` are new or changed objects, ``gone`` the names of deleted ones."""

    present: tuple[Document, ...] = ()
    gone: tuple[ObjectName, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.present or self.gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """``watch_s``: the approximate duration of a watch; a watch that ends before ``shortest_watch_s`` counts
    as failed. ``resync_s``: the approximate time between two lists. ``absence_s``: how long the API server
    must report that it does not know a kind before its objects are treated as deleted; an API server that has
    just started does not know the kinds of CRDs yet."""

    watch_s: float = 300.0
    resync_s: float = 600.0
    backoff: Backoff = _BACKOFF
    absence_s: float = 30.0
    shortest_watch_s: float = 1.0
    page_size: int = 500


class Collection:
    """The versions of the objects that were passed on. No I/O."""

    def __init__(self) -> None:
        self._versions: dict[ObjectName, str] = {}

    def __len__(self) -> int:
        return len(self._versions)

    def listed(self, objects: Iterable[Document]) -> Changes:
        """Takes the complete list of objects and returns the differences."""
        found = {name_of(each): each for each in objects}
        gone = tuple(name for name in self._versions if name not in found)
        present = tuple(each for name, each in found.items() if self._versions.get(name) != version_of(each))
        self._versions = {name: version_of(each) for name, each in found.items()}
        return Changes(present=present, gone=gone)

    def put(self, changed: Document) -> Changes:
        name, version = name_of(changed), version_of(changed)
        if self._versions.get(name) == version:
            return Changes()
        self._versions[name] = version
        return Changes(present=(changed,))

    def remove(self, deleted: Document) -> Changes:
        name = name_of(deleted)
        return Changes(gone=(name,)) if self._versions.pop(name, None) is not None else Changes()


class ListWatch:
    """Follows the collection at ``path``.

    ``selector`` is a query that selects objects of the collection, such as a ``fieldSelector``.
    ``older_paths`` are the paths of older API versions of the kind, the newest first; the first one that is
    served is followed.

    ``hand_on`` is called on the event loop with each change exactly once. ``synced`` is set after the first
    complete list was passed on, or when the API server does not know the kind.
    """

    def __init__(
        self,
        api: Reader,
        path: str,
        hand_on: Callable[[Changes], None],
        *,
        timing: Timing,
        older_paths: Sequence[str] = (),
        selector: Mapping[str, str] = _ALL,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        self.path: Final = path
        self.synced: Final = asyncio.Event()
        self._paths: Final = (path, *older_paths)
        self._served = path
        self._api: Final = api
        self._hand_on: Final = hand_on
        self._timing: Final = timing
        self._backoff: Final = timing.backoff
        self._selector: Final = selector
        self._clock: Final = clock
        self._rng: Final = rng or Random()
        self._collection: Final = Collection()
        self._version: str | None = None  # None: a list is needed
        self._list_due = 0.0
        self._absent_since: float | None = None
        self._failures = 0
        self._last_warning = ""
        self._heard = clock()

    def seconds_since_sync(self) -> float:
        """Returns the time since the last list, event or bookmark from the API server."""
        return self._clock() - self._heard

    async def run(self) -> None:
        """Follows the collection until cancelled."""
        while True:
            try:
                if self._version is None or self._clock() >= self._list_due:
                    await self._list()
                await self._watch()
            except UnreachableError as error:
                self._note_failure(error)  # the watch continues from the last known version
            except RefusedError as error:
                if not error.busy:  # a list would add to the load
                    self._version = None
                if error.status == _NOT_FOUND:
                    self._note_absence()
                else:
                    self._note_failure(error)
            await asyncio.sleep(self._backoff.delay_s(self._failures, self._rng))

    async def _list(self) -> None:
        """Reads all pages of one consistent list. If the API server has compacted its version before the last
        page, the next attempt starts from the first page."""
        objects: list[Document] = []
        query = {**self._selector, "limit": str(self._timing.page_size)}
        while True:
            page = await (self._next_page(query) if "continue" in query else self._first_page(query))
            version = version_of(page)
            objects += _items(page)
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                break
        # No await from here on: the list that is passed on and the version from which to watch must match.
        self._tell(self._collection.listed(objects))
        self._version = version
        self._list_due = self._clock() + jittered_s(self._timing.resync_s, self._rng)
        self._absent_since = None
        self._note_sync()
        self.synced.set()

    async def _first_page(self, query: Mapping[str, str]) -> Document:
        *newer, oldest = self._paths
        for path in newer:
            self._served = path
            try:
                return await self._next_page(query)
            except RefusedError as error:
                if error.status != _NOT_FOUND:
                    raise
        self._served = oldest
        return await self._next_page(query)

    async def _next_page(self, query: Mapping[str, str]) -> Document:
        return await self._api.get(self._served, query)

    async def _watch(self) -> None:
        began = self._clock()
        lasts_s = min(jittered_s(self._timing.watch_s, self._rng), self._list_due - began)
        query = {
            **self._selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version or "",
            "timeoutSeconds": str(max(1, round(lasts_s))),
        }
        try:
            async with aclosing(self._api.stream(self._served, query)) as events:
                async for event in events:
                    self._take(event)
                    self._failures = 0
                    self._note_sync()
        except UnreachableError:
            if self._has_lasted(began):
                self._failures = 0  # the connection worked, and was closed for lack of events
            raise
        # Watches that always end at once must not cause a flood of requests.
        self._failures = 0 if self._has_lasted(began) else self._failures + 1

    def _has_lasted(self, began: float) -> bool:
        return self._clock() - began >= self._timing.shortest_watch_s

    def _take(self, event: Document) -> None:
        happened, subject = event.get("type"), event.get("object")
        match happened:
            case "ADDED" | "MODIFIED":
                self._tell(self._collection.put(_identified(subject)))
            case "DELETED":
                self._tell(self._collection.remove(_identified(subject)))
            case "ERROR" if isinstance(subject, dict):
                raise RefusedError(subject.get("code", 500), subject.get("message", ""))
            case "BOOKMARK":
                pass
            case _:
                raise UnreachableError(f"the watch sent an invalid event: {event!r:.200}")
        self._version = version_of(subject)

    def _tell(self, changes: Changes) -> None:
        if changes:
            self._hand_on(changes)

    def _note_sync(self) -> None:
        self._heard = self._clock()
        if self._last_warning:
            _LOG.info("%s: watching again", self.path)
            self._last_warning = ""

    def _note_failure(self, error: KubernetesError) -> None:
        self._failures += 1
        if isinstance(error, RefusedError) and error.status == _GONE:
            _LOG.info("%s: listing again: %s", self.path, error)
        else:
            self._warn_once(f"cannot watch {self.path}, its last known objects stay in use: {error}")

    def _note_absence(self) -> None:
        self._failures += 1
        now = self._clock()
        if self._absent_since is None:
            self._absent_since = now
        if not self._collection or now - self._absent_since >= self._timing.absence_s:
            self._tell(self._collection.listed(()))
            self._heard = now
            self.synced.set()
        self._warn_once(f"the API server does not know {self.path}: is its CRD installed?")

    def _warn_once(self, text: str) -> None:
        """Logs a warning once, until the next successful sync."""
        if not self._last_warning:
            self._last_warning = text
            _LOG.warning("%s", text)


def name_of(document: Document) -> ObjectName:
    metadata = document["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def version_of(document: object) -> str:
    """Returns the resource version, an opaque string that can only be compared for equality. Raises
    `UnreachableError` when it is missing: the response then does not come from an API server, but perhaps
    from a proxy in front of it."""
    match document:
        case {"metadata": {"resourceVersion": str(version)}} if version:
            return version
    raise UnreachableError(f"the response has no resourceVersion: {document!r:.200}")


def _items(page: Document) -> Iterable[Document]:
    items = page.get("items") or []
    if not isinstance(items, list):
        raise UnreachableError(f"the items of the response are not a list: {items!r:.200}")
    return map(_identified, items)


def _identified(document: object) -> Document:
    """Returns the object without ``managedFields``, which are not used and need a large part of a list's
    memory. Raises `UnreachableError` for anything that is not an object."""
    match document:
        case {"metadata": {"name": str(), "resourceVersion": str()} as metadata}:
            assert isinstance(document, dict)  # the only mapping that JSON has
            metadata.pop("managedFields", None)
            return document
    raise UnreachableError(f"the response contains an invalid object: {document!r:.200}")
