"""The subscription of one stream to one resource type: the resources that the proxy wants, those that it has,
and those that are still to be sent ("owed"). No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from controlplane.errors import ProxyError
from controlplane.xds.acknowledgements import Acknowledgements
from controlplane.xds.resource import WHOLE_STATE_TYPES, Resource

WILDCARD: Final = "*"

_MAX_NAMES: Final = 50_000
_MAX_NAME_LENGTH: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The resources that must be built for a watch. ``wildcard`` means all resources that the proxy needs, in
    addition to ``names``. ``everything`` means that all subscribed resources are compared. Resources in
    ``forced`` are sent even if unchanged. ``first`` means that the subscription is new and needs a response,
    even an empty one."""

    type_url: str
    wildcard: bool
    names: frozenset[str]
    forced: frozenset[str]
    everything: bool
    first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """``changed`` are the resources that the proxy does not have in this version. ``missing`` are names that
    it has or requested and that do not exist."""

    changed: dict[str, Resource]
    missing: set[str]


@dataclass(slots=True)
class Watch:
    """``held`` are the resources that the proxy was last sent. ``claimed`` are the versions that it reported
    from an earlier stream, until they are compared. ``retiring`` are resources that the proxy has, but that
    no longer exist; their removal waits until nothing refers to them."""

    type_url: str
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    held: dict[str, Resource] = field(default_factory=dict)
    claimed: dict[str, str] = field(default_factory=dict)
    retiring: set[str] = field(default_factory=set)
    acks: Acknowledgements = field(default_factory=Acknowledgements)
    # Still to be sent:
    unanswered: bool = True
    compare_all: bool = True
    compare: set[str] = field(default_factory=set)
    forced: set[str] = field(default_factory=set)
    # State of the world: an empty list of names means all resources, until a request has contained names.
    _named: bool = False

    @property
    def owes(self) -> bool:
        return self.unanswered or self.compare_all or bool(self.compare) or bool(self.forced)

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def has(self, name: str) -> bool:
        return name in self.held or name in self.claimed

    # --- subscriptions

    def replace_names(self, names: Collection[str]) -> None:
        """State of the world: every request contains the whole subscription.
        https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#how-the-client-specifies-what-resources-to-return
        """
        explicit = _checked(self.type_url, names)
        may_be_legacy = self.type_url in WHOLE_STATE_TYPES and not self._named
        wildcard = WILDCARD in explicit or (not explicit and may_be_legacy)
        self._named = self._named or bool(explicit)
        explicit.discard(WILDCARD)
        self.forced |= explicit - self.names
        self.names = explicit
        if wildcard and not self.wildcard:
            self.compare_all = self.unanswered = True
        self.wildcard = wildcard
        self._forget_unwanted()

    def begin(self, subscribe: Collection[str], claimed: Mapping[str, str]) -> None:
        """Delta, the first request of the type on a stream. Only resources that differ from ``claimed`` are
        sent."""
        _checked(self.type_url, claimed)
        self.claimed = dict(claimed)
        self.wildcard = not subscribe and self.type_url in WHOLE_STATE_TYPES
        self.subscribe(subscribe)
        self.forced -= self.claimed.keys()

    def subscribe(self, names: Collection[str]) -> None:
        """Delta. A name that is already subscribed is sent again: the proxy may have dropped the resource."""
        explicit = _checked(self.type_url, names)
        if WILDCARD in explicit:
            explicit.discard(WILDCARD)
            self.compare_all = self.compare_all or not self.wildcard
            self.wildcard = True
        self.names |= explicit
        self.forced |= explicit
        if len(self.names) > _MAX_NAMES:
            raise _too_many(self.type_url, len(self.names))

    def unsubscribe(self, names: Collection[str]) -> None:
        """Delta. A name that the wildcard still covers is sent again, because the proxy has dropped the
        resource and must get it back."""
        if WILDCARD in names:
            self.wildcard = False
        dropped = self.names.intersection(names)
        self.names -= dropped
        if self.wildcard:
            self.forced |= dropped
        self._forget_unwanted()

    def _forget_unwanted(self) -> None:
        """Forgets resources that the proxy no longer wants: it drops them itself, and gets them again if it
        subscribes again."""
        if self.wildcard:
            return
        for name in self.held.keys() - self.names:
            del self.held[name]
        for name in self.claimed.keys() - self.names:
            del self.claimed[name]
        self.forced &= self.names
        self.compare &= self.names
        self.retiring &= self.names
        self.acks.forget_rejection_of_all_but(self.names)

    # --- resources to send

    def demand(self, *, whole: bool) -> Demand | None:
        """Returns the resources to build, or None. ``whole`` means that a response must contain the complete
        state, so all resources must be built."""
        if not self.owes:
            return None
        everything = whole or self.compare_all
        return Demand(
            type_url=self.type_url,
            wildcard=self.wildcard and everything,
            names=frozenset(self.names if everything else self.forced | self.compare),
            forced=frozenset(self.forced),
            everything=everything,
            first=self.unanswered,
        )

    def pay(self, demand: Demand, built: Mapping[str, Resource]) -> Difference:
        """Marks ``demand`` as done and returns the differences. The subscription may have changed during the
        build: resources that the proxy no longer wants are omitted, and new ones stay owed."""
        self.unanswered = self.unanswered and not demand.first
        self.compare_all = self.compare_all and not demand.everything
        self.compare -= demand.names
        self.forced -= demand.forced
        wanted = {name: resource for name, resource in built.items() if self.wants(name)}
        compared = set(demand.names)
        if demand.everything:
            compared |= self.held.keys() | self.claimed.keys()
        changed = {
            name: resource
            for name, resource in wanted.items()
            if name in demand.forced or self._version(name) != resource.version
        }
        missing = {
            name
            for name in compared
            if name not in built and self.wants(name) and (self.has(name) or name in demand.forced)
        }
        self.held |= wanted
        self.retiring -= wanted.keys()
        for name in wanted:
            self.claimed.pop(name, None)
        return Difference(changed=changed, missing=missing)

    def drop(self, names: Collection[str]) -> None:
        """Records that the proxy was sent the removal of these resources."""
        for name in names:
            self.held.pop(name, None)
            self.claimed.pop(name, None)
        self.retiring.difference_update(names)

    def _version(self, name: str) -> str | None:
        resource = self.held.get(name)
        return self.claimed.get(name) if resource is None else resource.version


def _checked(type_url: str, names: Collection[str]) -> set[str]:
    if len(names) > _MAX_NAMES:
        raise _too_many(type_url, len(names))
    for name in names:
        if not name or len(name) > _MAX_NAME_LENGTH:
            raise ProxyError(
                f"{type_url}: a resource name has {len(name)} characters, expected 1 to {_MAX_NAME_LENGTH}"
            )
    return set(names)


def _too_many(type_url: str, count: int) -> ProxyError:
    return ProxyError(f"{type_url}: {count} subscribed resource names exceed the limit of {_MAX_NAMES}")
