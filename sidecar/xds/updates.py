"""Applies a response: each resource is accepted or rejected, and ready resources are published.

No sockets: `XdsClient` passes the responses, and sends the answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protos import type_urls
from sidecar.config.bootstrap import Bootstrap
from sidecar.config.cluster import ClusterConfig
from sidecar.config.snapshot import EMPTY_SNAPSHOT, Snapshot
from sidecar.errors import ConfigError
from sidecar.xds.persistence import read_last_good
from sidecar.xds.state import XdsState
from sidecar.xds.store import Accepted, RawResource, Rejected, Store, internal_error
from sidecar.xds.warming import Warming
from sidecar.xds.wire import XdsResponse

_LOG = logging.getLogger(__name__)

OnSnapshot = Callable[[Snapshot], Awaitable[Mapping[str, ConfigError]]]
"""Applies a snapshot. Returns the errors of listeners by name, or raises `ConfigError` for the listener whose
name is in the error's path."""

ResolveFirst = Callable[[Mapping[str, ClusterConfig]], Awaitable[Set[str]]]
"""Takes the clusters to serve next; returns the names of those that wait for their first look-ups."""

# Decoding must not delay requests: after this time, other tasks run.
_SLICE_S: Final = 0.001
_MAX_ERROR_CHARACTERS: Final = 4096

# Of these types, a response of the state-of-the-world protocol has all resources.
_WHOLE: Final = frozenset((type_urls.LISTENER, type_urls.CLUSTER, type_urls.NAME_TABLE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``error``: why a response is refused, one line for each resource; empty if all resources were applied.
    ``listener_error``: why listeners of an earlier response, which became ready now, could not be applied."""

    error: str
    listener_error: str = ""


class Updates:
    """Accepts responses into the `Store`, and publishes the resources that `Warming` finds ready. While a
    response is applied, `publish` waits: no part of a response is published."""

    def __init__(
        self,
        bootstrap: Bootstrap,
        on_snapshot: OnSnapshot,
        state: XdsState,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        resolve_first: ResolveFirst | None = None,
    ) -> None:
        self._one_at_a_time = asyncio.Lock()
        self._resolve_first = resolve_first
        self.store = Store(bootstrap.static, wall_clock=wall_clock)
        self.warming = Warming(self.store)
        self._on_snapshot = on_snapshot
        self._state = state
        self._clock = clock
        self._wall_clock = wall_clock
        self._node_id = bootstrap.node_id
        # The listeners that were applied, to be restored if their next versions cannot be applied.
        self._taken: dict[str, Accepted] = {}

    def restore(self, cache_dir: Path) -> Snapshot | None:
        """Accepts the saved resources; None if there are none. Their versions are dropped, because a control
        plane that was restarted may use the same versions for other contents."""
        for raw in read_last_good(cache_dir, self._node_id):
            if raw.type_url not in self.store.types:
                _LOG.warning("ignored the saved resource %s of type %s", raw.name, raw.type_url)
                continue
            result = self.store.add(
                raw.type_url, RawResource(name=raw.name, version="", type_url=raw.type_url, body=raw.body)
            )
            if isinstance(result, Rejected):
                _LOG.warning("ignored the saved resource %s: %s", raw.name, result.error)
        if not any(kind.accepted for kind in self.store.types.values()):
            return None
        return self.warming.candidate(self._clock())

    def saved(self) -> list[RawResource]:
        """The resources to save, clusters first."""
        return [
            RawResource(name=resource.name, version=resource.version, type_url=type_url, body=resource.body)
            for type_url, kind in self.store.types.items()
            for resource in kind.accepted.values()
        ]

    async def apply(self, response: XdsResponse) -> Outcome:
        """As in Envoy, the valid resources of a refused response are applied."""
        async with self._one_at_a_time:
            errors = _duplicates(response) or await self._accept(response)
            listener_errors = await self._publish()
        if response.type_url == type_urls.LISTENER:
            errors, listener_errors = errors + listener_errors, []
        self._note(response, _joined(errors))
        return Outcome(error=_joined(errors), listener_error=_joined(listener_errors))

    async def _accept(self, response: XdsResponse) -> list[str]:
        errors: list[str] = []
        names: set[str] = set()
        slice_end = self._clock() + _SLICE_S
        for raw in response.resources:
            result = self.store.add(response.type_url, raw, names)
            names.add(result.name)
            if isinstance(result, Rejected):
                errors.append(_about(result.name, result.error))
            if self._clock() > slice_end:
                await asyncio.sleep(0)
                slice_end = self._clock() + _SLICE_S
        self.store.remove(response.type_url, response.removed)
        if response.complete and response.type_url in _WHOLE:
            self.store.keep_only(response.type_url, names)
        return errors

    async def publish(self) -> list[str]:
        """Passes the ready resources to the data path. Listeners that it refuses are taken back. Returns the
        reasons."""
        async with self._one_at_a_time:
            return await self._publish()

    async def _publish(self) -> list[str]:
        errors: list[str] = []
        while (snapshot := await self._candidate()) is not None:
            try:
                refused = await self._on_snapshot(snapshot)
            except ConfigError as error:
                name = _blamed(error, snapshot.listeners)
                if not name:  # the error is not in a listener, so the previous snapshot stays in force
                    return [*errors, str(error)]
                refused = {name: error}
            except Exception as error:  # an internal error must not end the process
                if self.warming.published is EMPTY_SNAPSHOT:
                    raise
                _LOG.exception("the configuration cannot be applied")
                return [*errors, internal_error(error)]
            self.warming.published = snapshot
            for name, reason in refused.items():
                errors.append(f"{name}: {reason}")
                self.store.take_back(type_urls.LISTENER, name, self._taken.get(name), str(reason))
            self._remember_taken(snapshot, refused)
        return errors

    async def _candidate(self) -> Snapshot | None:
        unresolved: Set[str] = frozenset()
        if self._resolve_first is not None:
            unresolved = await self._resolve_first(self.warming.next_clusters())
        return self.warming.candidate(self._clock(), unresolved=unresolved)

    def _remember_taken(self, snapshot: Snapshot, refused: Mapping[str, ConfigError]) -> None:
        accepted = self.store.types[type_urls.LISTENER].accepted
        for name in self._taken.keys() - snapshot.listeners.keys():
            del self._taken[name]
        for name, listener in snapshot.listeners.items():
            if name not in refused and name in accepted and accepted[name].value is listener:
                self._taken[name] = accepted[name]

    def note_refusal(self, type_url: str, reason: str) -> None:
        state = self._state.types[type_url]
        state.update_rejected += 1
        state.nack, state.nacked_s = reason, self._wall_clock()
        _LOG.warning("%s refused: %s", type_urls.SHORT_NAMES[type_url], reason)

    def _note(self, response: XdsResponse, reason: str) -> None:
        if reason:
            self.note_refusal(response.type_url, reason)
            return
        state = self._state.types[response.type_url]
        state.update_success += 1
        state.nack = ""
        state.updated_s = self._wall_clock()
        state.version_text = response.version


def _about(name: str, error: str) -> str:
    return f"{name}: {error}" if name else error


def _joined(errors: list[str]) -> str:
    return "\n".join(errors)[:_MAX_ERROR_CHARACTERS]


def _duplicates(response: XdsResponse) -> list[str]:
    """Errors for a delta response that names a resource twice, added or removed: all of it is refused."""
    names = [raw.name for raw in response.resources if raw.name]
    counts = Counter((*names, *response.removed))
    return [f"{name}: appears {count} times in the response" for name, count in counts.items() if count > 1]


def _blamed(error: ConfigError, listeners: Iterable[str]) -> str:
    """The listener that is named in the error's path; the longest name, if one name contains another."""
    return max((name for name in listeners if name in error.path), key=len, default="")
