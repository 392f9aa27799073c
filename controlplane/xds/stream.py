"""The protocol of one ADS stream, for both variants: which responses are due, and which must wait. No I/O.

The order is "make before break": clusters, their endpoints, listeners, routes, the names that lead to
listeners, and finally the removal of clusters that are no longer referenced.
https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations

Two kinds of responses wait for acknowledgements:

- Listeners and routes wait until the clusters sent before them are acknowledged and have their endpoints: a
  proxy answers a request for a cluster that is not ready yet with 503 NC.
- The removal of a cluster waits until the listeners and routes sent before it are acknowledged. If they are
  rejected, it keeps waiting: the proxy then uses its old ones, which may need the cluster. This delays
  nothing else; an unneeded cluster only costs memory.

The first wait ends with a rejection, and each wait ends after `PATIENCE_S` without an answer, so a proxy
cannot block its configuration for ever. A proxy that rejects a cluster keeps its old clusters, and most new
routes do not refer to the rejected one; without this rule one invalid cluster would block all updates.
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

# gRPC rejects messages of more than 4 MiB by default.
MAX_RESPONSE_BYTES: Final = 2 * 1024 * 1024

# The types that refer to clusters.
_CLUSTER_USERS: Final = (type_urls.LISTENER, type_urls.ROUTE)


class Stream(ABC, Generic[RequestT, ResponseT]):
    """The state of one stream. ``stream_id`` is the prefix of every nonce, so that a nonce of another stream
    is recognized as such."""

    variant: ClassVar[str]

    def __init__(self, stream_id: str) -> None:
        self.watches: Final[dict[str, Watch]] = {}
        self._stream_id: Final = stream_id
        self._nonces = 0
        # Load assignments that the proxy needs before it uses a new or changed cluster. Envoy waits for them,
        # but does not request them again if it is already subscribed, so they are sent even if unchanged.
        self._warming: Final[set[str]] = set()
        # Removed load assignments of clusters whose removal waits.
        self._orphans: Final[set[str]] = set()

    # --- implemented by the two variants

    @staticmethod
    @abstractmethod
    def returns(first: RequestT) -> bool:
        """Whether the first request of a stream shows that the proxy reconnects and already has resources."""

    @abstractmethod
    def receive(self, request: RequestT, now: float) -> Rejection | None:
        """Processes a request. Returns the rejection if it is a new NACK. Raises `ProxyError` for an invalid
        request."""

    @abstractmethod
    def _replaces(self, type_url: str) -> bool:
        """Whether a response of this type contains the complete state."""

    @abstractmethod
    def _can_remove(self, type_url: str) -> bool:
        """Whether a response of this type can remove a resource."""

    @abstractmethod
    def _encode(
        self, watch: Watch, changed: Collection[Resource], removed: Collection[str], now: float
    ) -> list[ResponseT]:
        """Returns at least one response with these changes."""

    # --- progress

    @property
    def acknowledged(self) -> bool:
        """Whether nothing is due, and the proxy has acknowledged all responses."""
        return self.answered and all(watch.acks.rejection is None for watch in self.watches.values())

    @property
    def answered(self) -> bool:
        """Whether nothing is due, and the proxy has acknowledged or rejected all responses."""
        return all(not watch.owes and watch.acks.settled for watch in self.watches.values())

    # --- changes

    def mesh_changed(self, types: Collection[str] = type_urls.PUSH_ORDER) -> None:
        """Any resource of these types may have changed."""
        for type_url in types:
            if type_url in self.watches:
                self.watches[type_url].compare_all = True

    def endpoints_changed(self, names: Collection[str]) -> None:
        """Only these load assignments may have changed."""
        endpoints = self.watches.get(type_urls.ENDPOINT)
        if endpoints is not None:
            endpoints.compare |= endpoints.names.intersection(names)

    # --- responses

    def has_work(self, now: float) -> bool:
        return any(self._is_due(watch, now) for watch in self.watches.values()) or self._may_retire(now)

    def demand(self, type_url: str, now: float) -> Demand | None:
        """Returns the resources of a type that must be built now, or None if nothing is due."""
        watch = self.watches.get(type_url)
        if watch is None or not self._is_due(watch, now):
            return None
        return watch.demand(whole=self._replaces(type_url))

    def respond(self, demand: Demand, built: Mapping[str, Resource], now: float) -> list[ResponseT]:
        """Returns the responses for the resources that were ``built`` for ``demand`` and differ from the
        proxy's."""
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
        """Returns the responses that remove unreferenced clusters, if their removal is due."""
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
        """Returns the time of the next timeout of a wait, or None if nothing waits."""
        clusters = self.watches.get(type_urls.CLUSTER)
        if clusters is None:
            return None
        users = self._cluster_users()
        waits = [_patience_ends(clusters.acks)] if any(user.owes for user in users) else []
        if clusters.retiring:
            waits += [_patience_ends(user.acks) for user in users]
        return min((at for at in waits if at > now), default=None)

    # --- waits

    def _is_due(self, watch: Watch, now: float) -> bool:
        if watch.type_url == type_urls.NAME_TABLE:
            # Names lead to listeners, which come first.
            listeners = self.watches.get(type_urls.LISTENER)
            return watch.owes and (listeners is None or not listeners.owes)
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
            and not clusters.owes  # a cluster that is to be removed may have been added again
            and all(_is_at_rest(user, now) for user in self._cluster_users())
        )

    def _cluster_users(self) -> list[Watch]:
        return [self.watches[type_url] for type_url in _CLUSTER_USERS if type_url in self.watches]

    def _removable(self, watch: Watch, missing: set[str]) -> set[str]:
        """Returns the names of ``missing`` whose removal can be sent now, and records the others for
        later."""
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
        """Records an ACK, or a NACK if there is a ``reason``. Returns the rejection if it is a new one."""
        before = watch.acks.rejection
        names = watch.acks.settle(nonce, reason, now)
        if watch.type_url == type_urls.ENDPOINT:
            self._warming.difference_update(names)
        after = watch.acks.rejection
        return after if after is not before else None

    def _record(self, watch: Watch, version: str, names: Collection[str], now: float) -> str:
        """Records a response that is about to be sent, and returns its nonce."""
        self._nonces += 1
        nonce = f"{self._stream_id}.{self._nonces}"
        watch.acks.record(Sent(nonce=nonce, version=version, names=frozenset(names), at=now))
        return nonce


def _is_at_rest(watch: Watch, now: float) -> bool:
    """Whether the proxy uses its last response of this type: it acknowledged it, or did not answer within the
    timeout."""
    if watch.owes or watch.acks.rejection is not None:
        return False
    return watch.acks.settled or now >= _patience_ends(watch.acks)


def _patience_ends(acks: Acknowledgements) -> float:
    """Returns the time at which the wait for the proxy ends. It starts with the oldest response without an
    answer, so that further responses to a silent proxy do not extend it."""
    return acks.awaited.at + PATIENCE_S if acks.awaited else 0.0
