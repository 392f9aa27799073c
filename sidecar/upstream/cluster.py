"""A cluster at work: its hosts, who gets the next request, and what is learned from how that went."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.dns import DnsLookupFamily
from sidecar.config.endpoint import Endpoint, LoadAssignment, SocketAddress
from sidecar.errors import IdentityError, NoHealthyUpstreamError, UpstreamConnectError, UpstreamOverflowError
from sidecar.observability.stats import ClusterStats, HostStats
from sidecar.observability.stream_info import StreamInfo
from sidecar.timers import Timer
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.connector import Connector, ProtocolT, tls_for
from sidecar.upstream.dns.discovery import DNS_KINDS
from sidecar.upstream.dns.question import Question
from sidecar.upstream.environment import UpstreamEnvironment
from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.host_set import BalancingRules, HostSet
from sidecar.upstream.load_balancer.subset import SubsetBalancer, SubsetKey
from sidecar.upstream.original_dst import original_destination
from sidecar.upstream.outlier_detection import OutlierDetector
from sidecar.upstream.pool.host_pool import HostPool, PoolEnvironment
from sidecar.upstream.tcp import TcpConnection, TcpSlot

_LOG = logging.getLogger(__name__)

NO_SUBSET: SubsetKey = frozenset()
ORIGINAL_DST_CLEANUP_INTERVAL_S = 5.0


class Cluster:
    """Made from one configuration, which never changes; its hosts come and go (`set_endpoints`).

    For one request: `pick` (or `original_dst_host`), a connection from the host's pool, `begin_request`, then
    either `responded` or `failed`, and `end_request` when all is over.
    """

    def __init__(self, config: ClusterConfig, stats: ClusterStats, env: UpstreamEnvironment) -> None:
        self.config = config
        self.name = config.name
        self.stats = stats
        self.breaker = CircuitBreaker(config.circuit_breakers)
        self.hosts: dict[SocketAddress, Host] = {}
        self._leaving: list[Host] = []
        self._env = env
        self._assignment: LoadAssignment | None = None
        self._connector = Connector(config, stats, env.tls, env.loop)
        self._pool_env = PoolEnvironment(
            config=config,
            breaker=self.breaker,
            stats=stats,
            dialer=self._connector,
            connection_factory=env.connection_factory,
            timers=env.timers,
            loop=env.loop,
        )
        self.is_original_dst = config.discovery is Discovery.ORIGINAL_DST
        self.outlier_detector: OutlierDetector | None = None
        if config.outlier_detection is not None:
            self.outlier_detector = OutlierDetector(config.outlier_detection, stats, env.rng)
        self._tick_interval_s = self._maintenance_interval_s()
        self._tick_timer: Timer | None = None
        self._rebuild()

    # Membership.

    def set_endpoints(self, assignment: LoadAssignment) -> None:
        """Hosts whose address stays keep their statistics, connections and ejections; the connections of
        those that leave are closed after their last exchange."""
        self._assignment = assignment
        endpoints = {endpoint.address: endpoint for endpoint in assignment.endpoints}
        changed = endpoints.keys() != self.hosts.keys()
        for address in self.hosts.keys() - endpoints.keys():
            self._remove(address)
        # In the order of the assignment, for round robin and for whoever looks.
        self.hosts = {address: self._host(endpoint) for address, endpoint in endpoints.items()}
        if self.config.discovery not in DNS_KINDS:  # where each look-up counts
            self.stats.update_success += 1
        self.stats.membership_change += changed
        self._rebuild()

    def _host(self, endpoint: Endpoint) -> Host:
        tls = tls_for(self.config, endpoint)
        host = self.hosts.get(endpoint.address)
        if host is None:
            stats = HostStats()
            return Host(endpoint, stats, HostPool(endpoint.address, tls, self._pool_env, stats))
        host.endpoint = endpoint
        if tls != host.pool.tls:
            self._secure(host)
        return host

    def _remove(self, address: SocketAddress) -> None:
        host = self.hosts.pop(address)
        if self.outlier_detector is not None:
            self.outlier_detector.forget(host)
        self._leaving = [leaving for leaving in self._leaving if not leaving.pool.drained]
        self._leaving.append(host)
        host.pool.drain()

    def renew_tls(self) -> None:
        """The workload's certificate or roots have changed."""
        for host in self.hosts.values():
            self._secure(host)

    def _secure(self, host: Host) -> None:
        tls = tls_for(self.config, host.endpoint)
        try:
            context = self._connector.context(tls)
        except IdentityError:
            return  # what stands goes on; dialing will tell the requests that need a new connection
        host.pool.use_tls(tls, context)

    # Balancing.

    def _rebuild(self) -> None:
        """Membership or health has changed."""
        hosts = self.hosts.values()
        config, env = self.config, self._env
        rules = BalancingRules(
            policy=config.lb_policy,
            least_request_choices=config.least_request_choice_count,
            overprovisioning_percent=self._assignment.overprovisioning_factor if self._assignment else 140,
            panic_threshold_percent=config.healthy_panic_threshold_percent,
        )
        self._balancer: HostSet[Host] = HostSet(hosts, rules, env.rng)
        self._subsets: SubsetBalancer[Host] | None = None
        if config.subsets is not None:
            self._subsets = SubsetBalancer(hosts, config.subsets, rules, env.rng)
        self.stats.membership_healthy = sum(host.healthy for host in hosts)
        self._count_members()
        self._watch()

    def _count_members(self) -> None:
        self.stats.membership_total = len(self.hosts)
        if self.outlier_detector is not None:
            self.outlier_detector.host_count = len(self.hosts)

    def pick(
        self, subset: SubsetKey = NO_SUBSET, tried: Collection[Host] = (), attempts: int = 0
    ) -> Host | None:
        """The next host in turn. One that was `tried` already is exchanged for another up to `attempts`
        times. None when there is no host."""
        host = self._next(subset)
        while attempts > 0 and host in tried:
            host = self._next(subset)
            attempts -= 1
        return host

    def _next(self, subset: SubsetKey) -> Host | None:
        if self._subsets is not None:
            return self._subsets.pick(subset)
        balancer = self._balancer
        if balancer.in_panic:
            self.stats.lb_healthy_panic += 1
        return balancer.pick()

    async def original_dst_host(self, info: StreamInfo, authority: bytes = b"") -> Host:
        """For `is_original_dst`: the host that the client was about to reach. Raises
        `NoHealthyUpstreamError` where that is unknown, or this proxy itself."""
        env = self._env
        address = await original_destination(info.connection, authority, env.resolve, self._question)
        if env.is_own_listener(address):
            raise NoHealthyUpstreamError(f"{address} is a listener of this proxy: the request would loop")
        host = self.hosts.get(address)
        if host is None:
            host = self.hosts[address] = self._host(Endpoint(address=address))
            self._count_members()
            self._watch()
        return host

    def _question(self, name: str) -> Question:
        dns = self.config.dns
        # Envoy has no such look-up to follow: where the configuration does not prefer a family, the address
        # comes first that this machine can reach best.
        family = DnsLookupFamily.ALL if dns.lookup_family is DnsLookupFamily.AUTO else dns.lookup_family
        resolver = dns.resolver or self._env.default_resolver
        return Question(name, family, resolver, by_reachability=family is DnsLookupFamily.ALL)

    # One request.

    def begin_request(self, host: Host) -> None:
        """Raises `UpstreamOverflowError` when too many are under way."""
        stats = self.stats
        if not self.breaker.may_request():
            stats.upstream_rq_pending_overflow += 1
            raise UpstreamOverflowError(f"cluster {self.name} has its maximum of requests under way")
        self.breaker.requests += 1
        stats.upstream_rq_total += 1
        stats.upstream_rq_active += 1
        host.stats.rq_total += 1
        host.stats.rq_active += 1

    def end_request(self, host: Host) -> None:
        """After the last byte of the response, or the failure."""
        self.breaker.requests -= 1
        self.stats.upstream_rq_active -= 1
        host.stats.rq_active -= 1

    def responded(self, host: Host, status: int, duration_s: float) -> None:
        """A response's head has come."""
        stats, detector = self.stats, self.outlier_detector
        stats.upstream_rq_completed += 1
        stats.upstream_rq_time.record(duration_s * 1000)
        if status < 500:
            host.stats.rq_success += 1
            if status >= 400:
                stats.upstream_rq_4xx += 1
            elif status >= 300:
                stats.upstream_rq_3xx += 1
            elif status >= 200:
                stats.upstream_rq_2xx += 1
            else:
                stats.upstream_rq_1xx += 1
            if detector is not None:
                detector.success(host)
        else:
            host.stats.rq_error += 1
            stats.upstream_rq_5xx += 1
            if detector is not None and detector.server_error(host, status, self._env.now_s()):
                self._note_ejection(host, f"answered {status}")

    def failed(self, host: Host, status: int) -> None:
        """No response came; `status` is what the client would be told."""
        host.stats.rq_error += 1
        detector = self.outlier_detector
        if detector is not None and detector.local_origin_failure(host, status, self._env.now_s()):
            self._note_ejection(host, "did not answer")

    def _note_ejection(self, host: Host, how: str) -> None:
        _LOG.warning("cluster %s: %s is ejected: the last time in a row it %s", self.name, host.address, how)
        self._rebuild()

    # Raw TCP.

    async def connect_tcp(
        self, protocol_factory: Callable[[], ProtocolT], info: StreamInfo, authority: bytes = b""
    ) -> TcpConnection[ProtocolT]:
        """A connection of its own to a host, for a stream of bytes; `release` it when it has ended.

        Raises `NoHealthyUpstreamError`, `UpstreamOverflowError` and `UpstreamConnectError`.
        """
        info.service = self.config.service
        host = await self.original_dst_host(info, authority) if self.is_original_dst else self.pick()
        if host is None:
            self.stats.upstream_cx_none_healthy += 1
            raise NoHealthyUpstreamError(f"cluster {self.name} has no healthy host")
        self.note_host(info, host)
        if not self.breaker.may_connect():
            self.stats.upstream_cx_overflow += 1
            raise UpstreamOverflowError(f"cluster {self.name} has its maximum of connections")
        slot = TcpSlot(host, self.breaker, self.stats)
        try:
            protocol, dialed = await self._connector.dial(
                host.address, host.pool.tls, lambda alpn: protocol_factory()
            )
        except BaseException as error:
            slot.release()
            if isinstance(error, UpstreamConnectError):
                host.stats.cx_connect_fail += 1
                info.upstream_failure = str(error)
                self.failed(host, error.status)
            raise
        if self.outlier_detector is not None:
            self.outlier_detector.success(host)
        info.upstream_peer_id = dialed.peer_id
        info.upstream_local_address = dialed.local_address
        return TcpConnection(protocol, dialed, slot)

    def note_host(self, info: StreamInfo, host: Host) -> None:
        info.cluster = self.name
        info.service = self.config.service
        info.upstream_address = host.address
        info.host_workload = host.endpoint.workload

    # Periodic work, and the end.

    def _maintenance_interval_s(self) -> float:
        if self.config.outlier_detection is not None:
            return self.config.outlier_detection.interval_s
        return ORIGINAL_DST_CLEANUP_INTERVAL_S if self.is_original_dst else 0.0

    def _watch(self) -> None:
        if self._tick_timer is None and self._tick_interval_s > 0 and self.hosts:
            self._tick_timer = self._env.timers.after(self._tick_interval_s, self._tick)

    def _tick(self) -> None:
        self._tick_timer = None
        detector = self.outlier_detector
        changed = detector is not None and detector.tick(self.hosts.values(), self._env.now_s())
        if detector is not None and changed:
            _LOG.info("cluster %s: hosts are back; %d stay ejected", self.name, detector.ejected_count)
        if self.is_original_dst:
            changed = self._remove_unused() or changed
        if changed:
            self._rebuild()
        self._watch()

    def _remove_unused(self) -> bool:
        """Hosts that exist because somebody went there go when nobody has a connection there any more."""
        unused = [host.address for host in self.hosts.values() if host.unused]
        for address in unused:
            self._remove(address)
        return bool(unused)

    def drain(self) -> None:
        """The cluster has been removed or replaced: what is under way goes on, nothing is kept for later."""
        self._stop_ticking()
        for host in self.hosts.values():
            if self.outlier_detector is not None:
                self.outlier_detector.forget(host)
            host.pool.drain()

    async def close(self) -> None:
        """Closes every connection now."""
        self._stop_ticking()
        for host in self._all_hosts():
            await host.pool.close()

    @property
    def drained(self) -> bool:
        return all(host.pool.drained for host in self._all_hosts())

    def _all_hosts(self) -> list[Host]:
        return [*self.hosts.values(), *self._leaving]

    def _stop_ticking(self) -> None:
        self._tick_interval_s = 0.0
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._tick_timer = None
