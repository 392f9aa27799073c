"""What the control plane is asked about one type of resource: names, versions, nonces, ACK, NACK. No I/O.

Both variants of the protocol keep the same promises: every response is answered once, a NACK repeats the last
version that was accepted, and a new stream starts with what is held already.
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
    """A ``DiscoveryRequest``. ``error`` not empty makes it a NACK."""

    type_url: str
    version: str = ""
    names: tuple[str, ...] = ()
    nonce: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRequest:
    """A ``DeltaDiscoveryRequest``. ``error`` not empty makes it a NACK."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    error: str = ""


Request = SotwRequest | DeltaRequest


class Subscription(Protocol):
    """One type's state on the stream. Each method returns the request to send, None for nothing to say."""

    wildcard: bool

    def open(self, held: Mapping[str, str]) -> Request | None:
        """On a new stream. ``held`` are the names and versions of the resources at hand."""

    def want(self, names: Set[str]) -> Request | None:
        """The names that are needed from now on; a wildcard's never change."""

    def answer(self, version: str, nonce: str, error: str = "") -> Request:
        """To a response that was applied, or refused for ``error``."""


class SotwSubscription:
    """Each request repeats all names and the version that holds; each response is answered with its nonce."""

    def __init__(self, type_url: str, *, wildcard: bool) -> None:
        self.wildcard = wildcard
        self._type_url = type_url
        self._names: frozenset[str] = frozenset()
        self._version = ""
        self._nonce = ""
        self._asked = False

    def open(self, held: Mapping[str, str]) -> SotwRequest | None:
        # A nonce belongs to its stream; the version does not, and tells the server what is at hand.
        self._nonce = ""
        self._asked = False
        return self._request() if self.wildcard or self._names else None

    def want(self, names: Set[str]) -> SotwRequest | None:
        if self.wildcard or names == self._names:
            return None
        self._names = frozenset(names)
        # An empty list from the start would mean "everything", which nobody asked for.
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
    """Names are subscribed and unsubscribed by difference; versions are said once, when a stream opens."""

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
    """All types on one stream after another. Each method returns the requests to send, in order.

    As Envoy does, listeners are asked for once clusters had their first answer, so that a listener can be
    checked against the clusters that it names.
    """

    def __init__(self, variant: AdsVariant, *, clusters: bool, listeners: bool) -> None:
        kind = DeltaSubscription if variant is AdsVariant.DELTA else SotwSubscription
        wildcards = {type_urls.CLUSTER: clusters, type_urls.LISTENER: listeners}
        self._types: dict[str, Subscription] = {
            type_url: kind(type_url, wildcard=type_url in wildcards)
            for type_url in type_urls.PUSH_ORDER
            if wildcards.get(type_url, True)
        }
        self._hold_listeners = clusters and listeners
        self._unanswered = {type_url for type_url in wildcards if type_url in self._types}
        self._nonces: dict[str, tuple[str, str]] = {}

    @property
    def synced(self) -> bool:
        """Whether listeners and clusters, where they are asked for, had an answer; on any stream."""
        return not self._unanswered

    def open(self, held: Callable[[str], Mapping[str, str]]) -> list[Request]:
        """On a new stream. ``held`` gives the versions of a type's resources at hand."""
        self._nonces.clear()
        return _some(
            subscription.open(held(type_url))
            for type_url, subscription in self._types.items()
            if not (self._hold_listeners and type_url == type_urls.LISTENER)
        )

    def release_listeners(self, held: Callable[[str], Mapping[str, str]]) -> list[Request]:
        """Asks for listeners now, if that has not happened yet."""
        if not self._hold_listeners:
            return []
        self._hold_listeners = False
        return _some([self._types[type_urls.LISTENER].open(held(type_urls.LISTENER))])

    def want(self, type_url: str, names: Set[str]) -> list[Request]:
        """The names of a type that something points at now."""
        return _some([self._types[type_url].want(names)])

    def expects(self, type_url: str) -> bool:
        """Whether a response of this type may come."""
        return type_url in self._types

    def answer(self, type_url: str, version: str, nonce: str, error: str = "") -> list[Request]:
        self._unanswered.discard(type_url)
        self._nonces[type_url] = (version, nonce)
        return [self._types[type_url].answer(version, nonce, error)]

    def refuse_late(self, type_url: str, error: str) -> list[Request]:
        """A NACK of what was acknowledged before, and could not be put to use when it was ready."""
        if type_url not in self._nonces:
            return []
        version, nonce = self._nonces[type_url]
        return [self._types[type_url].answer(version, nonce, error)]


def _some(requests: Iterable[Request | None]) -> list[Request]:
    return [request for request in requests if request is not None]
