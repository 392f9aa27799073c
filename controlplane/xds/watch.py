"""What one stream wants of one resource type, what the proxy has of it, and what is still owed. No I/O."""

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
    """What must be built to pay what a watch is owed. ``wildcard``: all that the proxy needs, beside
    ``names``. ``everything``: compare all that is subscribed; ``forced`` is sent even if it did not change;
    ``first``: the subscription is new and deserves an answer, if only an empty one."""

    type_url: str
    wildcard: bool
    names: frozenset[str]
    forced: frozenset[str]
    everything: bool
    first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What the proxy lacks, and what it has or asked for although it exists no longer, or never did."""

    changed: dict[str, Resource]
    missing: set[str]


@dataclass(slots=True)
class Watch:
    """``held`` is what the proxy was last sent; ``claimed`` the versions that it brought along from an
    earlier stream, until they are first compared. ``retiring``: the proxy has them, the mesh does not, and
    their removal waits for whatever still points at them."""

    type_url: str
    wildcard: bool = False
    names: set[str] = field(default_factory=set)
    held: dict[str, Resource] = field(default_factory=dict)
    claimed: dict[str, str] = field(default_factory=dict)
    retiring: set[str] = field(default_factory=set)
    acks: Acknowledgements = field(default_factory=Acknowledgements)
    # What is owed:
    unanswered: bool = True
    compare_all: bool = True
    compare: set[str] = field(default_factory=set)
    forced: set[str] = field(default_factory=set)
    # State of the world: "no names" means all, until names were named once.
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
        """State of the world: every request repeats the whole subscription.
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
        """Delta, the first request of the type on a stream: only what differs from ``claimed`` is owed."""
        _checked(self.type_url, claimed)
        self.claimed = dict(claimed)
        self.wildcard = not subscribe and self.type_url in WHOLE_STATE_TYPES
        self.subscribe(subscribe)
        self.forced -= self.claimed.keys()

    def subscribe(self, names: Collection[str]) -> None:
        """Delta. A name that was subscribed already is owed again: the proxy may have dropped it since."""
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
        """Delta. A name that the wildcard still covers is sent again: the proxy asked to drop it, and has to
        learn that it stays."""
        if WILDCARD in names:
            self.wildcard = False
        dropped = self.names.intersection(names)
        self.names -= dropped
        if self.wildcard:
            self.forced |= dropped
        self._forget_unwanted()

    def _forget_unwanted(self) -> None:
        """What the proxy no longer wants it drops by itself: if it asks again, it is owed again."""
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

    # --- what is owed

    def demand(self, *, whole: bool) -> Demand | None:
        """``whole``: a response has to hold all that the proxy shall have, so all of it must be built."""
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
        """Takes ``demand`` off what is owed and tells what the proxy lacks. It may have changed its mind
        while the resources were built: what it no longer wants is left out, what it asked for since stays
        owed."""
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
        """The proxy was told that these are gone."""
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
                f"{type_url}: a resource name of {len(name)} characters, expected 1 to {_MAX_NAME_LENGTH}"
            )
    return set(names)


def _too_many(type_url: str, count: int) -> ProxyError:
    return ProxyError(f"{type_url}: {count} resource names subscribed, at most {_MAX_NAMES} are served")
