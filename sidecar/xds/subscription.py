"""The requests for one type of resource: names, versions, nonces, ACK, NACK. No I/O.

Both variants of the protocol follow the same rules: every response is answered once, a NACK repeats the last
accepted version, and a new stream begins with the resources that are held.
https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from protos import type_urls
from sidecar.config.bootstrap import AdsVariant

WILDCARD = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class SotwRequest:
    """A ``DiscoveryRequest``. If ``error`` is not empty, it is a NACK."""

    type_url: str
    version: str = ""
    names: tuple[str, ...] = ()
    nonce: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRequest:
    """A ``DeltaDiscoveryRequest``. If ``error`` is not empty, it is a NACK."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str = ""


Request = SotwRequest | DeltaRequest


class Subscription(Protocol):
    """The state of one type on the stream. Each method returns the request to send, or None."""

    wildcard: bool

    def open(self, held: Mapping[str, str]) -> Request | None:
        """To be called on a new stream. ``held`` are the names and versions of the resources that are
        held."""

    def want(self, names: Set[str]) -> Request | None:
        """Sets the names that are needed. A wildcard subscription needs every name, and does not change."""

    def answer(self, version: str, nonce: str, error: str = "") -> Request:
        """The answer to a response: an ACK, or a NACK if there is an ``error``."""


class SotwSubscription:
    """Each request has all names and the accepted version; each response is answered with its nonce."""

    def __init__(self, type_url: str, *, wildcard: bool) -> None:
        self.wildcard = wildcard
        self._type_url = type_url
        self._names: frozenset[str] = frozenset()
        self._version = ""
        self._nonce = ""
        self._asked = False

    def open(self, held: Mapping[str, str]) -> SotwRequest | None:
        # A nonce belongs to its stream. The version tells the server which resources are held.
        self._nonce = ""
        self._asked = False
        return self._request() if self.wildcard or self._names else None

    def want(self, names: Set[str]) -> SotwRequest | None:
        if self.wildcard or names == self._names:
            return None
        self._names = frozenset(names)
        # An empty list in the first request would subscribe to every resource.
        return self._request() if self._names or self._asked else None

    def answer(self, version: str, nonce: str, error: str = "") -> SotwRequest:
        self._nonce = nonce
        if not error:
            self._version = version
        return self._request(error)

    def _request(self, error: str = "") -> SotwRequest:
        self._asked = True
        return SotwRequest(
            type_url=self._type_url,
            version=self._version,
            names=tuple(sorted(self._names)),
            nonce=self._nonce,
            error=error,
        )


class DeltaSubscription:
    """Requests have only the names that were added and removed; versions are sent once, when a stream
    opens."""

    def __init__(self, type_url: str, *, wildcard: bool) -> None:
        self.wildcard = wildcard
        self._type_url = type_url
        self._names: frozenset[str] = frozenset()

    def open(self, held: Mapping[str, str]) -> DeltaRequest | None:
        if not self.wildcard and not self._names:
            return None
        names = (WILDCARD,) if self.wildcard else tuple(sorted(self._names))
        known = held if self.wildcard else {name: held[name] for name in names if name in held}
        return DeltaRequest(type_url=self._type_url, subscribe=names, initial_versions=dict(known))

    def want(self, names: Set[str]) -> DeltaRequest | None:
        if self.wildcard or names == self._names:
            return None
        added, dropped = names - self._names, self._names - names
        self._names = frozenset(names)
        return DeltaRequest(type_url=self._type_url, subscribe=_sorted(added), unsubscribe=_sorted(dropped))

    def answer(self, version: str, nonce: str, error: str = "") -> DeltaRequest:
        return DeltaRequest(type_url=self._type_url, nonce=nonce, error=error)


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


class Subscriptions:
    """The subscriptions of all types, over all streams. Each method returns the requests to send, in order.

    As in Envoy, listeners are requested after the first response about clusters, so that a listener can be
    checked against the clusters that it names; and the names that lead to listeners after them.
    """

    def __init__(self, variant: AdsVariant, *, clusters: bool, listeners: bool, names: bool = False) -> None:
        kind = DeltaSubscription if variant is AdsVariant.DELTA else SotwSubscription
        wildcards = {
            type_urls.CLUSTER: clusters,
            type_urls.LISTENER: listeners,
            type_urls.NAME_TABLE: names,
        }
        self._types: dict[str, Subscription] = {
            type_url: kind(type_url, wildcard=type_url in wildcards)
            for type_url in type_urls.PUSH_ORDER
            if wildcards.get(type_url, True)
        }
        self._held_back = [
            type_url
            for type_url in (type_urls.LISTENER, type_urls.NAME_TABLE)
            if clusters and type_url in self._types
        ]
        self._unanswered = {type_url for type_url in wildcards if type_url in self._types}
        self._nonces: dict[str, tuple[str, str]] = {}

    @property
    def synced(self) -> bool:
        """Whether the requests for listeners, clusters and names had a response, on any stream."""
        return not self._unanswered

    def open(self, held: Callable[[str], Mapping[str, str]]) -> list[Request]:
        """To be called on a new stream. ``held`` returns the versions of the resources of a type that are
        held."""
        self._nonces.clear()
        return _some(
            subscription.open(held(type_url))
            for type_url, subscription in self._types.items()
            if type_url not in self._held_back
        )

    def release_listeners(self, held: Callable[[str], Mapping[str, str]]) -> list[Request]:
        """Requests listeners and names, unless they are requested already."""
        released, self._held_back = self._held_back, []
        return _some(self._types[type_url].open(held(type_url)) for type_url in released)

    def stop_waiting_for_names(self) -> bool:
        """Returns whether the request for names never had a response."""
        waited = type_urls.NAME_TABLE in self._unanswered
        self._unanswered.discard(type_urls.NAME_TABLE)
        return waited

    def drop_unanswered_names(self) -> bool:
        """If names were requested and never sent, no further stream requests them: a control plane that does
        not know the type may end the stream. Returns whether they are dropped."""
        if type_urls.NAME_TABLE in self._held_back or not self.stop_waiting_for_names():
            return False
        del self._types[type_urls.NAME_TABLE]
        return True

    def want(self, type_url: str, names: Set[str]) -> list[Request]:
        """Sets the names of a type that resources refer to."""
        return _some([self._types[type_url].want(names)])

    def expects(self, type_url: str) -> bool:
        """Whether this type is requested."""
        return type_url in self._types

    def answer(self, type_url: str, version: str, nonce: str, error: str = "") -> list[Request]:
        self._unanswered.discard(type_url)
        self._nonces[type_url] = (version, nonce)
        return [self._types[type_url].answer(version, nonce, error)]

    def refuse_late(self, type_url: str, error: str) -> list[Request]:
        """A NACK of resources that were acknowledged, and could not be applied when they became ready."""
        if type_url not in self._nonces:
            return []
        version, nonce = self._nonces[type_url]
        return [self._types[type_url].answer(version, nonce, error)]


def _some(requests: Iterable[Request | None]) -> list[Request]:
    return [request for request in requests if request is not None]
