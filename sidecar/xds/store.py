"""The accepted resources, and the reasons why others were rejected. Decides which changes a response makes;
no I/O."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import TypeVar

from protos import type_urls
from sidecar.config.cluster import ClusterConfig
from sidecar.config.endpoint import LoadAssignment
from sidecar.config.listener import Listener
from sidecar.config.name_table import NameTable
from sidecar.config.route import RouteConfiguration
from sidecar.config.snapshot import Snapshot
from sidecar.errors import ConfigError
from sidecar.xds.decode import Resource, decode_resource, resource_name
from sidecar.xds.references import unknown_cluster, unknown_cluster_in_listener

_LOG = logging.getLogger(__name__)

_R = TypeVar("_R", Listener, RouteConfiguration, ClusterConfig, LoadAssignment, NameTable)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawResource:
    """A resource as it was received. ``name`` is empty in the state-of-the-world protocol: the name is inside
    the resource."""

    name: str = ""
    version: str
    type_url: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """``updated_s`` is seconds since the epoch."""

    name: str
    version: str
    body: bytes
    updated_s: float
    value: Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Envoy's ``UpdateFailureState``: the last update that failed. The next successful update removes it."""

    name: str
    version: str
    body: bytes
    failed_s: float
    error: str


@dataclass(slots=True)
class TypeStore:
    """The resources of one type by name. ``missing``: names that do not exist, according to the control
    plane."""

    accepted: dict[str, Accepted] = field(default_factory=dict)
    rejected: dict[str, Rejected] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)


class Store:
    """``static`` are the resources of the bootstrap file. They never change, and discovered resources cannot
    use their names."""

    def __init__(self, static: Snapshot, *, wall_clock: Callable[[], float]) -> None:
        self.static = static
        self.types = {type_url: TypeStore() for type_url in type_urls.PUSH_ORDER}
        self._wall_clock = wall_clock
        self._secrets = frozenset(static.secrets)

    def add(self, type_url: str, raw: RawResource, taken: Set[str] = frozenset()) -> Accepted | Rejected:
        """Accepts one resource, or rejects it and keeps the version before. ``taken`` are the names that the
        same response has used already."""
        name = raw.name
        try:
            if raw.type_url != type_url:
                raise ConfigError("", f"is of type {raw.type_url!r}, in a response of type {type_url!r}")
            name = resource_name(type_url, raw.body)
            if raw.name and raw.name != name and type_url != type_urls.NAME_TABLE:
                raise ConfigError("name", f"is {name!r}, but the response has the name {raw.name!r}")
            if name in taken:
                raise ConfigError("name", f"{name!r} is a duplicate in the response")
            return self._accept(type_url, name, raw)
        except ConfigError as error:
            return self._reject(type_url, name, raw, str(error))
        except Exception as error:  # an internal error must not end the process
            _LOG.exception("%s %s cannot be decoded", type_urls.SHORT_NAMES[type_url], name)
            return self._reject(type_url, name, raw, internal_error(error))

    def _accept(self, type_url: str, name: str, raw: RawResource) -> Accepted:
        store = self.types[type_url]
        held = store.accepted.get(name)
        if held is not None and held.body == raw.body:
            # The same object: it did not change.
            value = held.value
        else:
            value = decode_resource(type_url, raw.body, self._secrets)
            self._check(type_url, name, value)
        accepted = Accepted(
            name=name, version=raw.version, body=raw.body, updated_s=self._wall_clock(), value=value
        )
        store.accepted[name] = accepted
        store.rejected.pop(name, None)
        store.missing.discard(name)
        return accepted

    def _check(self, type_url: str, name: str, value: Resource) -> None:
        """Raises `ConfigError` for a conflict with other resources."""
        if name in self._static_names(type_url):
            raise ConfigError("name", f"{name!r} is the name of a static resource of the bootstrap file")
        missing = ""
        if isinstance(value, Listener):
            self._check_address(value)
            missing = unknown_cluster_in_listener(value, self.cluster_names())
        elif isinstance(value, RouteConfiguration):
            missing = unknown_cluster(value, self.cluster_names(), in_place=False)
        if missing:
            raise ConfigError("", f"a route refers to the unknown cluster {missing!r}")

    def _check_address(self, listener: Listener) -> None:
        if not listener.bind_to_port or listener.address.port == 0:
            return
        for other in self.listeners().values():
            if other.name != listener.name and other.bind_to_port and other.address == listener.address:
                reason = f"{listener.address} is already the address of the listener {other.name!r}"
                raise ConfigError("address", reason)

    def _static_names(self, type_url: str) -> Set[str]:
        if type_url == type_urls.LISTENER:
            return self.static.listeners.keys()
        return self.static.clusters.keys() if type_url == type_urls.CLUSTER else frozenset()

    def _reject(self, type_url: str, name: str, raw: RawResource, error: str) -> Rejected:
        rejected = Rejected(
            name=name, version=raw.version, body=raw.body, failed_s=self._wall_clock(), error=error
        )
        self.types[type_url].rejected[name] = rejected
        return rejected

    def remove(self, type_url: str, names: Iterable[str]) -> None:
        """Removes listeners, clusters and the name table. As in Envoy, a route configuration or a load
        assignment stays as long as a resource refers to it."""
        store = self.types[type_url]
        for name in names:
            store.rejected.pop(name, None)
            if type_url in (type_urls.LISTENER, type_urls.CLUSTER, type_urls.NAME_TABLE):
                store.accepted.pop(name, None)
            elif name not in store.accepted:
                store.missing.add(name)

    def keep_only(self, type_url: str, names: Set[str]) -> None:
        """Removes the resources that are not in the state of the world, or that are not subscribed to any
        more."""
        store = self.types[type_url]
        for known in (store.accepted, store.rejected):
            for name in known.keys() - names:
                del known[name]
        store.missing &= names

    def take_back(self, type_url: str, name: str, previous: Accepted | None, error: str) -> None:
        """Rejects a resource that was accepted but could not be applied, and restores the version before."""
        store = self.types[type_url]
        refused = store.accepted.pop(name, None)
        if previous is not None:
            store.accepted[name] = previous
        if refused is not None:
            raw = RawResource(name=name, version=refused.version, type_url=type_url, body=refused.body)
            self._reject(type_url, name, raw, error)

    def versions(self, type_url: str) -> dict[str, str]:
        return {name: resource.version for name, resource in self.types[type_url].accepted.items()}

    def listeners(self) -> Mapping[str, Listener]:
        return {**self.static.listeners, **self._values(type_urls.LISTENER, Listener)}

    def clusters(self) -> Mapping[str, ClusterConfig]:
        return {**self.static.clusters, **self._values(type_urls.CLUSTER, ClusterConfig)}

    def cluster_names(self) -> frozenset[str]:
        return frozenset(self.static.clusters) | self.types[type_urls.CLUSTER].accepted.keys()

    def routes(self) -> Mapping[str, RouteConfiguration]:
        return self._values(type_urls.ROUTE, RouteConfiguration)

    def endpoints(self) -> Mapping[str, LoadAssignment]:
        return self._values(type_urls.ENDPOINT, LoadAssignment)

    def names(self) -> Mapping[str, NameTable]:
        return self._values(type_urls.NAME_TABLE, NameTable)

    def _values(self, type_url: str, kind: type[_R]) -> dict[str, _R]:
        return {
            name: resource.value
            for name, resource in self.types[type_url].accepted.items()
            if isinstance(resource.value, kind)
        }


def internal_error(error: Exception) -> str:
    """The text of a NACK for an unexpected exception."""
    return f"internal error: {type(error).__name__}: {error}"
