"""All listeners of a worker: warming, active and draining.

The listeners of a new snapshot are compared with those in service. A changed listener is built first, and
then replaces the old one. A listening socket stays open as long as a listener has its address, so that an
update loses no connection: open connections stay with their filter chain, and only changed chains drain.
"""

from __future__ import annotations

import logging
import resource
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Final

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChain, HttpConnectionManager, Listener, TrafficDirection
from sidecar.config.snapshot import EMPTY_SNAPSHOT, Snapshot
from sidecar.errors import ConfigError, IdentityError
from sidecar.identity.contexts import TlsContexts
from sidecar.listener.active_listener import ActiveChain, ActiveListener, OnRefused, Services
from sidecar.listener.bound_addresses import BindKey, BoundAddresses, Claims, bind_key
from sidecar.listener.handler import ConnectionHandler, MakeHttp, MakeTcp
from sidecar.listener.listen_socket import OpenSocket, bind, is_local
from sidecar.listener.original_dst import OriginalDestination, original_destination
from sidecar.observability.stats import ListenerStats, ProxyProtocolStats, Stats, proxy_protocol_prefix
from sidecar.timers import Timers

_LOG = logging.getLogger(__name__)

# The rest is left to connections to upstream hosts, and to the process itself.
_DOWNSTREAM_SHARE_OF_DESCRIPTORS: Final = 0.9


class ListenerState(Enum):
    WARMING = "warming"
    ACTIVE = "active"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStatus:
    """One entry of the admin's ``/listeners``. ``address`` has the real port if the configured one is 0."""

    name: str
    address: SocketAddress
    state: ListenerState
    active_connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """``drain_time_s``: how long the connections of a removed listener may last (Envoy's ``--drain-time-s``).
    ``drain_timeout_s``: how long a draining listener waits for the first bytes of a client (Envoy's default
    ``drain_timeout``)."""

    drain_time_s: float = 600.0
    drain_timeout_s: float = 5.0
    handshake_timeout_s: float = 10.0


@dataclass(eq=False, slots=True)
class _Draining:
    """A replaced or removed listener, until its connections are closed."""

    listener: ActiveListener
    handlers: tuple[ConnectionHandler, ...]


class ListenerManager:
    """Runs in the event loop's thread. ``make_http`` and ``make_tcp`` build the handler of a filter chain;
    ``observe_refused`` returns the functions that a listener calls for a connection without a handler."""

    def __init__(
        self,
        *,
        contexts: TlsContexts,
        make_http: MakeHttp,
        make_tcp: MakeTcp,
        observe_refused: Callable[[Listener], tuple[OnRefused, ...]] = lambda listener: (),
        stats: Stats,
        timers: Timers,
        settings: ListenerSettings,
        original_destination: OriginalDestination = original_destination,
        open_socket: OpenSocket = bind,
    ) -> None:
        self._contexts: Final = contexts
        self._make_http: Final = make_http
        self._make_tcp: Final = make_tcp
        self._observe_refused: Final = observe_refused
        self._stats: Final = stats
        self._timers: Final = timers
        self._settings: Final = settings
        self._services: Final = Services(
            contexts=contexts,
            timers=timers,
            original_destination=original_destination,
            find_listener=self._find_by_destination,
            handshake_timeout_s=settings.handshake_timeout_s,
            drain_timeout_s=settings.drain_timeout_s,
            highest_descriptor=_highest_downstream_descriptor(),
            connection_ids=count(1),
        )
        self._snapshot = EMPTY_SNAPSHOT
        self._active: dict[str, ActiveListener] = {}
        self._warming: dict[str, Listener] = {}
        self._draining: set[_Draining] = set()
        self._bound: Final = BoundAddresses(open_socket)
        self._by_destination: dict[SocketAddress, ActiveListener] = {}
        self._draining_directions: set[TrafficDirection] = set()
        self._stopped_directions: set[TrafficDirection] = set()

    # Configuration.

    def update(self, snapshot: Snapshot) -> dict[str, ConfigError]:
        """Puts the snapshot's listeners in service. Returns the errors by listener: a listener with an error
        stays as it was, and the others are not affected."""
        self._snapshot = snapshot
        self._warming.clear()
        errors: dict[str, ConfigError] = {}
        claims = Claims()
        for name, config in snapshot.listeners.items():
            current = self._active.get(name)
            try:
                claims.add(config)
                if current is not None and (current.config is config or current.config == config):
                    continue
                if (awaited := self._awaited(config)) is not None:
                    _LOG.info("listener %s is warming: it waits for %s", name, awaited)
                    self._warming[name] = config
                else:
                    self._activate(config, current)
            except ConfigError as error:
                errors[name] = error
        for name in self._active.keys() - snapshot.listeners.keys():
            self._remove(name)
        self._keep_bound()
        self._by_destination = {
            listener.config.address: listener
            for listener in self._active.values()
            if listener.config.address.port
        }
        return errors

    def identity_ready(self) -> dict[str, ConfigError]:
        """The workload's certificate has arrived: listeners that waited for it come into service."""
        return self.update(self._snapshot)

    @property
    def warming(self) -> frozenset[str]:
        return frozenset(self._warming)

    @property
    def bind_keys(self) -> frozenset[BindKey]:
        """The addresses that listeners accept on, or will accept on when they are warm."""
        configs = (*(listener.config for listener in self._active.values()), *self._warming.values())
        return frozenset(
            bind_key(config) for config in configs if config.bind_to_port and self._may_accept(config)
        )

    def _awaited(self, config: Listener) -> str | None:
        """A description of what must arrive before the listener can serve; None if nothing is missing."""
        for chain in _all_chains(config):
            if chain.tls is not None and self._contexts.awaits_identity(chain.tls):
                return "the workload's certificate"
            http = chain.filter
            if (
                isinstance(http, HttpConnectionManager)
                and http.route_config is None
                and http.rds_name not in self._snapshot.routes
            ):
                return f"the route configuration {http.rds_name!r}"
        return None

    def _activate(self, config: Listener, current: ActiveListener | None) -> None:
        for chain in _all_chains(config):
            self._check_tls(config, chain)
        default = config.default_filter_chain
        listener = ActiveListener(
            config,
            [self._chain(chain, config, current) for chain in config.filter_chains],
            None if default is None else self._chain(default, config, current),
            self._stats.listener(_stat_name(config.address)),
            self._services,
            on_refused=self._observe_refused(config),
            proxy_protocol_stats=self._proxy_protocol_stats(config),
        )
        if config.bind_to_port and self._may_accept(config):
            self._bound.listen(config, listener.accept)
        self._active[config.name] = listener
        if current is not None:
            self._drain_replaced(current, kept=listener.chains)
        if config.direction in self._draining_directions:
            _drain(listener)
        _LOG.info("listener %s is active on %s", config.name, self._bound.address_of(config))

    def _proxy_protocol_stats(self, config: Listener) -> ProxyProtocolStats | None:
        if config.proxy_protocol is None:
            return None
        return self._stats.proxy_protocol(config.proxy_protocol.stat_prefix)

    def _check_tls(self, config: Listener, chain: FilterChain) -> None:
        if chain.tls is None:
            return
        try:
            self._contexts.server(chain.tls)
        except IdentityError as error:
            raise ConfigError(
                "filter_chains.transport_socket",
                f"listener {config.name!r}, filter chain {chain.name!r}: {error}",
            ) from error

    def _chain(self, config: FilterChain, listener: Listener, current: ActiveListener | None) -> ActiveChain:
        """An unchanged chain keeps its handler and its connections."""
        if current is not None and _fields_for_handlers(current.config) == _fields_for_handlers(listener):
            for chain in current.chains:
                if chain.config == config:
                    return chain
        if isinstance(config.filter, HttpConnectionManager):
            return ActiveChain(config, self._make_http(config.filter, listener))
        return ActiveChain(config, self._make_tcp(config.filter, listener))

    def _keep_bound(self) -> None:
        """Closes the sockets that no listener in service uses."""
        self._bound.keep_only(
            listener.config for listener in self._active.values() if self._may_accept(listener.config)
        )

    def _may_accept(self, config: Listener) -> bool:
        return config.direction not in self._stopped_directions

    def _find_by_destination(self, destination: SocketAddress) -> ActiveListener | None:
        """Envoy's ``use_original_dst``: the listener of the exact address, or of the wildcard address."""
        wildcard = "::" if ":" in destination.host else "0.0.0.0"
        by_destination = self._by_destination
        return by_destination.get(destination) or by_destination.get(
            SocketAddress(wildcard, destination.port)
        )

    # Draining.

    def _remove(self, name: str) -> None:
        _LOG.info("listener %s is removed and drains", name)
        self._drain_replaced(self._active.pop(name), kept=())

    def _drain_replaced(self, listener: ActiveListener, kept: tuple[ActiveChain, ...]) -> None:
        handlers = tuple(chain.handler for chain in listener.chains if chain not in kept)
        for handler in handlers:
            handler.drain()
        if not _connections(listener, handlers):
            for handler in handlers:
                handler.close()
            return
        draining = _Draining(listener, handlers)
        self._draining.add(draining)
        self._timers.after(self._settings.drain_time_s, lambda: self._end_drain(draining))

    def _end_drain(self, draining: _Draining) -> None:
        self._draining.discard(draining)
        draining.listener.cancel_setups()
        for handler in draining.handlers:
            handler.close()

    def drain(self, directions: Collection[TrafficDirection] = tuple(TrafficDirection)) -> None:
        """Asks all clients to disconnect, and continues to serve. Listeners still accept, since clients learn
        late that this workload shuts down. Listeners that are added later drain too."""
        self._draining_directions.update(directions)
        for listener in self._active.values():
            if listener.config.direction in directions:
                _drain(listener)

    def stop(self, directions: Collection[TrafficDirection] = tuple(TrafficDirection)) -> None:
        """Drains listeners, and closes their sockets; open connections continue."""
        self.drain(directions)
        self._stopped_directions.update(directions)
        self._keep_bound()

    async def close(self) -> None:
        """Ends everything at once."""
        self._bound.keep_only(())
        for listener, handlers in self._in_service():
            listener.cancel_setups()
            for handler in handlers:
                handler.close()
        self._active.clear()
        self._warming.clear()
        self._draining.clear()

    # Status and statistics.

    @property
    def active_connections(self) -> int:
        return sum(_connections(listener, handlers) for listener, handlers in self._in_service())

    def listens_on(self, address: SocketAddress) -> bool:
        """Whether a connection to this address from this machine reaches a listener of this proxy."""
        configs = (listener.config for listener in self._active.values())
        ports = (self._bound.address_of(config).port for config in configs if config.bind_to_port)
        return address.port in ports and is_local(address.host)

    def statuses(self) -> list[ListenerStatus]:
        def status(config: Listener, state: ListenerState, connections: int) -> ListenerStatus:
            return ListenerStatus(
                name=config.name,
                address=self._bound.address_of(config),
                state=state,
                active_connections=connections,
            )

        active = [
            status(listener.config, ListenerState.ACTIVE, _connections(listener, _handlers(listener)))
            for listener in self._active.values()
        ]
        warming = [status(config, ListenerState.WARMING, 0) for config in self._warming.values()]
        draining = [
            status(left.listener.config, ListenerState.DRAINING, connections)
            for left in self._draining
            if (connections := _connections(left.listener, left.handlers))
        ]
        return active + warming + draining

    def stat_prefixes(self) -> set[str]:
        """The prefixes of the counters that active and draining listeners use."""
        found: set[str] = set()
        for listener, _ in self._in_service():
            found.add(f"listener.{_stat_name(listener.config.address)}")
            if listener.config.proxy_protocol is not None:
                found.add(proxy_protocol_prefix(listener.config.proxy_protocol.stat_prefix))
            for chain in _all_chains(listener.config):
                kind = "http" if isinstance(chain.filter, HttpConnectionManager) else "tcp"
                found.add(f"{kind}.{chain.filter.stat_prefix}")
        return found

    def refresh_stats(self) -> None:
        """Updates the gauges from the handlers, which count their connections."""
        active: Counter[ListenerStats] = Counter()
        for listener, handlers in self._in_service():
            active[listener.stats] += _connections(listener, handlers)
        for stats, connections in active.items():
            stats.downstream_cx_active = connections
            stats.downstream_cx_destroy = stats.downstream_cx_total - connections

    def _in_service(self) -> Iterator[tuple[ActiveListener, tuple[ConnectionHandler, ...]]]:
        for listener in self._active.values():
            yield listener, _handlers(listener)
        for draining in self._draining:
            yield draining.listener, draining.handlers


def _all_chains(config: Listener) -> tuple[FilterChain, ...]:
    default = config.default_filter_chain
    return config.filter_chains if default is None else (*config.filter_chains, default)


def _fields_for_handlers(listener: Listener) -> tuple[object, ...]:
    """The fields of a listener that its handlers read."""
    return (listener.name, listener.direction, listener.access_logs, listener.metadata)


def _stat_name(address: SocketAddress) -> str:
    """As Envoy's: ``0.0.0.0_15001``, ``[__1]_15001``."""
    return str(address).replace(":", "_")


def _handlers(listener: ActiveListener) -> tuple[ConnectionHandler, ...]:
    return tuple(chain.handler for chain in listener.chains)


def _connections(listener: ActiveListener, handlers: tuple[ConnectionHandler, ...]) -> int:
    return listener.connections_in_setup + sum(handler.active_connections for handler in handlers)


def _drain(listener: ActiveListener) -> None:
    listener.drain()
    for handler in _handlers(listener):
        handler.drain()


def _highest_downstream_descriptor() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return int(soft * _DOWNSTREAM_SHARE_OF_DESCRIPTORS)
