"""The protocol of one ADS stream, whatever its variant: what to send next, and what has to wait. No I/O.

Make before break, over one stream: clusters, their endpoints, listeners, routes, and at last the removal of
the clusters that nothing points at any more.
https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations

Two things wait for the proxy:

- Listeners and routes wait until the clusters sent before them are acknowledged and have their endpoints: a
  proxy answers a request for a cluster that it does not use yet with 503 NC.
- The removal of a cluster waits until the listeners and routes sent before it are acknowledged, and goes on
  waiting when they were rejected: the proxy then runs the old ones, which may need the cluster. That holds
  nothing up, a cluster too many only costs memory.

No proxy can hold its own configuration up for ever: a rejection ends the first wait, and `PATIENCE_S` without
an answer either. A proxy that rejects a cluster keeps its old ones, and most of the new routes do not concern
the one that was rejected; to hold them all back would let one bad cluster stop the mesh.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import ClassVar, Final, Generic, TypeVar

from google.protobuf.message import Message

from controlplane.xds.acknowledgements import Acknowledgements, Rejection, Sent
from controlplane.xds.resource import Resource
from controlplane.xds.watch import Demand, Watch
from protos import type_urls

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)

PATIENCE_S: Final = 5.0

# gRPC refuses a message of more than 4 MiB by default.
MAX_RESPONSE_BYTES: Final = 2 * 1024 * 1024

# What points at clusters.
_CLUSTER_USERS: Final = (type_urls.LISTENER, type_urls.ROUTE)


class Stream(ABC, Generic[RequestT, ResponseT]):
    """``stream_id`` starts every nonce, so that one of another stream is never taken for one of this."""

    variant: ClassVar[str]

    def __init__(self, stream_id: str) -> None:
        self.watches: Final[dict[str, Watch]] = {}
        self._stream_id: Final = stream_id
        self._nonces = 0
        # Endpoints that the proxy needs before it uses a cluster that it was sent. Envoy waits for them but
        # does not ask again if it has subscribed to them already, so they are sent even when unchanged.
        self._warming: Final[set[str]] = set()
        # Endpoints that are gone, of clusters whose removal waits.
        self._orphans: Final[set[str]] = set()

    # --- the two variants differ in how they say things

    @staticmethod
    @abstractmethod
    def returns(first: RequestT) -> bool:
        """Does the first request of a stream say that the proxy has followed before?"""

    @abstractmethod
    def receive(self, request: RequestT, now: float) -> Rejection | None:
        """Takes a request in; a NACK is returned. Raises `ProxyError` if it cannot be followed."""

    @abstractmethod
    def _replaces(self, type_url: str) -> bool:
        """Does a response of this type hold all that the proxy shall have?"""

    @abstractmethod
    def _can_remove(self, type_url: str) -> bool:
        """Can a response of this type tell that a resource is gone?"""

    @abstractmethod
    def _encode(
        self, watch: Watch, changed: Collection[Resource], removed: Collection[str], now: float
    ) -> list[ResponseT]:
        """The responses that tell the proxy this: one at least."""

    # --- how far the proxy has come

    @property
    def acknowledged(self) -> bool:
        """Is nothing owed, and all that was sent acknowledged?"""
        return self.answered and all(watch.acks.rejection is None for watch in self.watches.values())

    @property
    def answered(self) -> bool:
        """Is nothing owed, and all that was sent acknowledged or refused?"""
        return all(not watch.owes and watch.acks.settled for watch in self.watches.values())

    # --- what changes

    def mesh_changed(self, types: Collection[str] = type_urls.PUSH_ORDER) -> None:
        """Any resource of these types may differ."""
        for type_url in types:
            if type_url in self.watches:
                self.watches[type_url].compare_all = True

    def endpoints_changed(self, names: Collection[str]) -> None:
        """Only these load assignments may differ."""
        endpoints = self.watches.get(type_urls.ENDPOINT)
        if endpoints is not None:
            endpoints.compare |= endpoints.names.intersection(names)

    # --- what to send

    def has_work(self, now: float) -> bool:
        return any(self._is_due(watch, now) for watch in self.watches.values()) or self._may_retire(now)

    def demand(self, type_url: str, now: float) -> Demand | None:
        """What must be built to send what is due of a type."""
        watch = self.watches.get(type_url)
        if watch is None or not self._is_due(watch, now):
            return None
        return watch.demand(whole=self._replaces(type_url))

    def respond(self, demand: Demand, built: Mapping[str, Resource], now: float) -> list[ResponseT]:
        """Turns what was built for ``demand`` into what the proxy does not know yet."""
        watch = self.watches[demand.type_url]
        difference = watch.pay(demand, built)
        removed = self._removable(watch, difference.missing)
        watch.drop(removed)
        if watch.type_url == type_urls.CLUSTER:
            self._warm(difference.changed.values())
        elif watch.type_url == type_urls.ENDPOINT:
            self._warming.difference_update(difference.missing)
        if not self._can_remove(watch.type_url):
            removed = set()
        if not (demand.first or difference.changed or removed):
            return []
        return self._encode(watch, difference.changed.values(), removed, now)

    def retire(self, now: float) -> list[ResponseT]:
        """Removes the clusters that nothing points at any more, when it is time."""
        if not self._may_retire(now):
            return []
        clusters = self.watches[type_urls.CLUSTER]
        removed = frozenset(clusters.retiring)
        clusters.drop(removed)
        endpoints = self.watches.get(type_urls.ENDPOINT)
        if endpoints is not None:
            endpoints.compare |= self._orphans & endpoints.names
        self._orphans.clear()
        return self._encode(clusters, (), removed, now)

    def wake_at(self, now: float) -> float | None:
        """When something that waits for the proxy has waited enough; None: nothing does."""
        clusters = self.watches.get(type_urls.CLUSTER)
        if clusters is None:
            return None
        users = self._cluster_users()
        waits = [_patience_ends(clusters.acks)] if any(user.owes for user in users) else []
        if clusters.retiring:
            waits += [_patience_ends(user.acks) for user in users]
        return min((at for at in waits if at > now), default=None)

    # --- what waits

    def _is_due(self, watch: Watch, now: float) -> bool:
        return watch.owes and (watch.type_url not in _CLUSTER_USERS or self._clusters_are_usable(now))

    def _clusters_are_usable(self, now: float) -> bool:
        clusters = self.watches.get(type_urls.CLUSTER)
        if clusters is None or now >= _patience_ends(clusters.acks):
            return True
        if not clusters.acks.settled:
            return False
        endpoints = self.watches.get(type_urls.ENDPOINT)
        return (
            clusters.acks.rejection is not None
            or endpoints is None
            or self._warming.isdisjoint(endpoints.names)
        )

    def _may_retire(self, now: float) -> bool:
        clusters = self.watches.get(type_urls.CLUSTER)
        return (
            clusters is not None
            and bool(clusters.retiring)
            and not clusters.owes  # what is retiring may have come back
            and all(_is_at_rest(user, now) for user in self._cluster_users())
        )

    def _cluster_users(self) -> list[Watch]:
        return [self.watches[type_url] for type_url in _CLUSTER_USERS if type_url in self.watches]

    def _removable(self, watch: Watch, missing: set[str]) -> set[str]:
        """Which of ``missing`` the proxy may be told of now; the rest is noted for later."""
        if watch.type_url == type_urls.CLUSTER:
            waiting = {name for name in missing if watch.has(name)}
            watch.retiring |= waiting
            return missing - waiting
        if watch.type_url == type_urls.ENDPOINT:
            clusters = self.watches.get(type_urls.CLUSTER)
            if clusters is not None and clusters.retiring:
                waiting = {name for name in missing if watch.has(name)}
                self._orphans.update(waiting)
                return missing - waiting
        return missing

    def _warm(self, clusters: Collection[Resource]) -> None:
        awaited = {cluster.warms_with for cluster in clusters if cluster.warms_with}
        self._warming.update(awaited)
        endpoints = self.watches.get(type_urls.ENDPOINT)
        if endpoints is not None:
            endpoints.forced |= awaited & endpoints.names

    # --- for the variants

    def _settle(self, watch: Watch, nonce: str, reason: str | None, now: float) -> Rejection | None:
        """Books an ACK, or a NACK if there is a ``reason``. Returns a rejection that is news."""
        before = watch.acks.rejection
        names = watch.acks.settle(nonce, reason, now)
        if watch.type_url == type_urls.ENDPOINT:
            self._warming.difference_update(names)
        after = watch.acks.rejection
        return after if after is not before else None

    def _record(self, watch: Watch, version: str, names: Collection[str], now: float) -> str:
        """Books a response that is about to leave, and gives it its nonce."""
        self._nonces += 1
        nonce = f"{self._stream_id}.{self._nonces}"
        watch.acks.record(Sent(nonce=nonce, version=version, names=frozenset(names), at=now))
        return nonce


def _is_at_rest(watch: Watch, now: float) -> bool:
    """The proxy runs what it was last sent of this type, as far as anybody will ever know."""
    if watch.owes or watch.acks.rejection is not None:
        return False
    return watch.acks.settled or now >= _patience_ends(watch.acks)


def _patience_ends(acks: Acknowledgements) -> float:
    """By the oldest response without an answer: a silent proxy is not waited for anew with each response."""
    return acks.awaited.at + PATIENCE_S if acks.awaited else 0.0
