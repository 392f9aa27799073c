"""A running cluster: its hosts, the choice of one for each request, and the ejection of those that fail."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.codec_type import CodecType
from sidecar.config.dns import DnsLookupFamily
from sidecar.config.endpoint import Endpoint, LoadAssignment, SocketAddress
from sidecar.errors import NoHealthyUpstreamError
from sidecar.observability.stats import ClusterStats, HostStats, Http2Stats
from sidecar.observability.stream_info import StreamInfo
from sidecar.timers import Timer
from sidecar.upstream.attempt import Attempt
from sidecar.upstream.circuit_breaker import CircuitBreaker
from sidecar.upstream.connection import ClientEnvironment
from sidecar.upstream.connector import Connector, ProtocolT, proxy_protocol_for, tls_for
from sidecar.upstream.dns.discovery import DNS_KINDS
from sidecar.upstream.dns.question import Question
from sidecar.upstream.environment import UpstreamEnvironment
from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.context import PickContext
from sidecar.upstream.load_balancer.host_set import HostSet
from sidecar.upstream.load_balancer.priority_level import BalancingRules
from sidecar.upstream.load_balancer.subset import SubsetBalancer
from sidecar.upstream.original_dst import original_destination
from sidecar.upstream.outlier_detection import HostEjection, OutlierDetector
from sidecar.upstream.pool.host_pool import PoolEnvironment
from sidecar.upstream.shared_counters import SharedRow
from sidecar.upstream.tcp import TcpAttempt, TcpConnection

_LOG = logging.getLogger(__name__)

ORIGINAL_DST_CLEANUP_INTERVAL_S = 5.0
DEFAULT_OVERPROVISIONING_PERCENT = 140


class Cluster:
    """Its configuration never changes; its hosts do (`set_endpoints`). Requests go out through an `Attempt`,
    streams of bytes through `connect_tcp`.

    After `drain`, a request that still holds the cluster is served, and its connection is closed after it.
    """

    def __init__(
        self,
        config: ClusterConfig,
        stats: ClusterStats,
        env: UpstreamEnvironment,
        shared: SharedRow | None = None,
        http2_stats: Http2Stats | None = None,
    ) -> None:
        """`shared`: the limits hold for this row of all workers. `http2_stats`: for a cluster that may use
        HTTP/2."""
        self.config = config
        self.name = config.name
        self.stats = stats
        self.breaker = CircuitBreaker(config.circuit_breakers, shared)
        self.hosts: dict[SocketAddress, Host] = {}
        self._leaving: list[Host] = []
        self._draining = False  # if true, each new connection puts the cluster back among `env.draining`
        self._env = env
        self._overprovisioning_percent = DEFAULT_OVERPROVISIONING_PERCENT
        self._connector = Connector(config, stats, env.tls, env.loop)
        self._pool_env = PoolEnvironment(
            config=config,
            breaker=self.breaker,
            stats=stats,
            dialer=self._connector,
            connection_factory=env.connection_factory,
            client=ClientEnvironment(
                stats=stats, timers=env.timers, http2=config.http2, http2_stats=http2_stats or Http2Stats()
            ),
            timers=env.timers,
            loop=env.loop,
        )
        self.auto_names = config.auto_names
        self.follows_downstream = config.codec_type is CodecType.DOWNSTREAM
        self.is_original_dst = config.discovery is Discovery.ORIGINAL_DST
        self.outlier_detector: OutlierDetector | None = None
        if config.outlier_detection is not None:
            self.outlier_detector = OutlierDetector(config.outlier_detection, stats, env.rng)
        self._tick_interval_s = self._maintenance_interval_s()
        self._tick_timer: Timer | None = None
        self._rebuild()

    # Membership.

    def set_endpoints(self, assignment: LoadAssignment) -> None:
        """Hosts whose address remains keep their statistics, connections and ejections; the connections to
        hosts that leave are closed after their last exchange."""
        endpoints = {endpoint.address: endpoint for endpoint in assignment.endpoints}
        changed = endpoints.keys() != self.hosts.keys()
        if self.config.discovery not in DNS_KINDS:  # DNS discovery counts each look-up itself
            self.stats.update_success += 1
        self.stats.membership_change += changed
        if self._differs_in_health_only(assignment, endpoints):
            for host, endpoint in zip(self.hosts.values(), endpoints.values(), strict=True):
                has_other_health = host.endpoint.health is not endpoint.health
                self._host(endpoint)
                if has_other_health:
                    self._health_changed(host)
            return
        for address in self.hosts.keys() - endpoints.keys():
            self._remove(address)
        # In the order of the assignment: for round robin, and for people who read /clusters.
        self.hosts = {address: self._host(endpoint) for address, endpoint in endpoints.items()}
        self._overprovisioning_percent = assignment.overprovisioning_factor
        self._rebuild()

    def _differs_in_health_only(
        self, assignment: LoadAssignment, endpoints: dict[SocketAddress, Endpoint]
    ) -> bool:
        """Whether the balancers, which are built from all else, remain."""
        return (
            assignment.overprovisioning_factor == self._overprovisioning_percent
            and list(endpoints) == list(self.hosts)
            and all(
                _is_balanced_alike(host.endpoint, endpoint)
                for host, endpoint in zip(self.hosts.values(), endpoints.values(), strict=True)
            )
        )

    def _host(self, endpoint: Endpoint) -> Host:
        tls = tls_for(self.config, endpoint)
        host = self.hosts.get(endpoint.address)
        if host is None:
            stats = HostStats()
            proxy_protocol = proxy_protocol_for(self.config, endpoint)
            host = Host(endpoint, stats, tls, self._pool_env, proxy_protocol)
            if self._draining:
                host.drain()
            return host
        host.endpoint = endpoint
        host.proxy_protocol = proxy_protocol_for(self.config, endpoint)
        if tls != host.tls:
            self._secure(host)
        return host

    def _remove(self, address: SocketAddress) -> None:
        host = self.hosts.pop(address)
        self._healthy.discard(host)
        if self.outlier_detector is not None:
            self.outlier_detector.forget(host.monitor)
        self._leaving = [leaving for leaving in self._leaving if not leaving.drained]
        self._leaving.append(host)
        host.drain()

    def renew_tls(self) -> None:
        """The workload's certificate or roots have changed."""
        for host in self.hosts.values():
            self._secure(host)

    def _secure(self, host: Host) -> None:
        host.use_tls(tls_for(self.config, host.endpoint))

    # Balancing.

    def _rebuild(self) -> None:
        """Hosts were added or removed, or have another weight, priority or labels."""
        hosts = self.hosts.values()
        config, env = self.config, self._env
        rules = BalancingRules(
            policy=config.lb_policy,
            least_request_choices=config.least_request_choice_count,
            overprovisioning_percent=self._overprovisioning_percent,
            panic_threshold_percent=config.healthy_panic_threshold_percent,
        )
        self._balancer: HostSet | SubsetBalancer
        if config.subsets is None:
            self._balancer = HostSet(hosts, rules, env.rng)
        else:
            self._balancer = SubsetBalancer(hosts, config.subsets, rules, env.rng)
        self._healthy = {host for host in hosts if host.healthy}
        self._count_members()
        self._watch()

    def _count_members(self) -> None:
        self.stats.membership_healthy = len(self._healthy)
        self.stats.membership_total = len(self.hosts)
        if self.outlier_detector is not None:
            self.outlier_detector.host_count = len(self.hosts)

    def _health_changed(self, host: Host) -> None:
        """Takes constant time, whatever the number of hosts."""
        self._balancer.update(host)
        if host.healthy:
            self._healthy.add(host)
        else:
            self._healthy.discard(host)
        self._count_members()

    def pick(self, context: PickContext) -> Host | None:
        """Picks the next host. Returns None when no host may take the request."""
        balancer = self._balancer
        if balancer.in_panic:
            self.stats.lb_healthy_panic += 1
        host = balancer.pick(context)
        repicks = context.max_repicks
        while repicks and host in context.tried:
            repicks -= 1
            if balancer.in_panic:
                self.stats.lb_healthy_panic += 1
            host = balancer.pick(context)
        return host

    async def _original_dst_host(self, info: StreamInfo, authority: bytes) -> Host:
        env = self._env
        address = await original_destination(info.connection, authority, env.resolve, self._question)
        if env.is_own_listener(address):
            raise NoHealthyUpstreamError(f"{address} is a listener of this proxy: the request would loop")
        host = self.hosts.get(address)
        if host is None:
            host = self.hosts[address] = self._host(Endpoint(address=address))
            self._healthy.add(host)
            self._count_members()
            self._watch()
        return host

    def _question(self, name: str) -> Question:
        dns = self.config.dns
        # Envoy has no such look-up. If the configuration prefers no family, the address that this machine
        # reaches best comes first.
        family = DnsLookupFamily.ALL if dns.lookup_family is DnsLookupFamily.AUTO else dns.lookup_family
        resolver = dns.resolver or self._env.default_resolver
        return Question(name, family, resolver, by_reachability=family is DnsLookupFamily.ALL)

    # Attempts.

    def begin_attempt(self, context: PickContext, info: StreamInfo) -> Attempt:
        """Begins an attempt at the next host. Raises `NoHealthyUpstreamError`."""
        host = self.pick(context)
        if host is None:
            raise self._no_healthy_host()
        if context.max_repicks:
            context.tried.append(host)
        if self._draining:
            self._env.draining.add(self)
        return Attempt(self, host, info)

    async def begin_original_dst_attempt(self, info: StreamInfo, authority: bytes) -> Attempt:
        """Begins an attempt at the host that the client connected to, for `is_original_dst`, as
        `begin_known_attempt` if that is possible. Raises `NoHealthyUpstreamError` if the host is unknown, or
        this proxy itself."""
        return self._attempt_at(await self._original_dst_host(info, authority), info)

    def begin_known_attempt(self, info: StreamInfo) -> Attempt | None:
        """As `begin_original_dst_attempt`, at a host that had earlier requests. None if it had none."""
        destination = info.connection.original_destination
        host = self.hosts.get(destination) if destination is not None else None
        return None if host is None else self._attempt_at(host, info)

    def _attempt_at(self, host: Host, info: StreamInfo) -> Attempt:
        if self._draining:
            self._env.draining.add(self)
        return Attempt(self, host, info)

    def _no_healthy_host(self) -> NoHealthyUpstreamError:
        self.stats.upstream_cx_none_healthy += 1
        return NoHealthyUpstreamError(f"cluster {self.name} has no healthy host")

    async def connect_tcp(
        self, protocol_factory: Callable[[], ProtocolT], info: StreamInfo, authority: bytes = b""
    ) -> TcpConnection[ProtocolT]:
        """Opens a connection to a host, for a stream of bytes; `release` it when it has ended.

        Raises `NoHealthyUpstreamError`, `UpstreamOverflowError` and `UpstreamConnectError`.
        """
        info.service = self.config.service
        host = (
            await self._original_dst_host(info, authority)
            if self.is_original_dst
            else self.pick(PickContext())
        )
        if host is None:
            raise self._no_healthy_host()
        if self._draining:
            self._env.draining.add(self)
        attempt = TcpAttempt(self, host, info)
        try:
            protocol, dialed = await self._connector.dial(
                host.address,
                host.tls,
                lambda alpn: protocol_factory(),
                host.source_for(info.connection),
                info.server_names,
            )
        except BaseException as error:
            attempt.failed(error)
            raise
        return attempt.connected(protocol, dialed)

    # Outlier detection.

    def host_answered_error(self, host: Host, status: int) -> None:
        """The host answered with a `status` of 500 or more."""
        host.stats.rq_error += 1
        detector = self.outlier_detector
        if detector is not None and detector.server_error(host.monitor, status, self._env.now_s()):
            self._ejected(host, f"status {status}")

    def host_failed(self, host: Host, status: int) -> None:
        """The host did not answer in time; `status` is the one that the client would get."""
        host.stats.rq_error += 1
        detector = self.outlier_detector
        if detector is not None and detector.local_origin_failure(host.monitor, status, self._env.now_s()):
            self._ejected(host, "no response")

    def _ejected(self, host: Host, how: str) -> None:
        _LOG.warning(
            "cluster %s: %s is ejected: too many failures, the last: %s", self.name, host.address, how
        )
        self._health_changed(host)
        self._env.on_ejection(host.ejection(self.name))

    def follow_ejection(self, ejection: HostEjection) -> None:
        """Another worker has ejected a host, or has taken it back."""
        host, detector = self.hosts.get(ejection.address), self.outlier_detector
        if host is not None and detector is not None and detector.follow(host.monitor, ejection):
            self._health_changed(host)

    def ejections(self) -> list[HostEjection]:
        return [host.ejection(self.name) for host in self.hosts.values() if host.ejected]

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
        if self.outlier_detector is not None:
            self._end_ejections(self.outlier_detector)
        if self.is_original_dst:
            self._remove_unused()
        self._watch()

    def _end_ejections(self, detector: OutlierDetector) -> None:
        now_s = self._env.now_s()
        back = [host for host in self.hosts.values() if detector.tick(host.monitor, now_s)]
        for host in back:
            self._health_changed(host)
            self._env.on_ejection(host.ejection(self.name))
        if back:
            _LOG.info("cluster %s: hosts are back; %d stay ejected", self.name, detector.ejected_count)

    def _remove_unused(self) -> None:
        """Removes the hosts of `is_original_dst` that have no connection any more."""
        for address in [host.address for host in self.hosts.values() if host.unused]:
            self._remove(address)
        self._count_members()

    def drain(self) -> None:
        """The cluster has been removed or replaced: active requests continue, idle connections close."""
        self._stop_ticking()
        self._draining = True
        self.breaker.leave()
        self._env.draining.add(self)
        for host in self.hosts.values():
            if self.outlier_detector is not None:
                self.outlier_detector.forget(host.monitor)
            host.drain()

    async def close(self) -> None:
        """Closes every connection now."""
        self._stop_ticking()
        for host in self._all_hosts():
            await host.close()

    @property
    def drained(self) -> bool:
        return all(host.drained for host in self._all_hosts())

    def _all_hosts(self) -> list[Host]:
        return [*self.hosts.values(), *self._leaving]

    def _stop_ticking(self) -> None:
        self._tick_interval_s = 0.0
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._tick_timer = None


def _is_balanced_alike(one: Endpoint, other: Endpoint) -> bool:
    """Whether the balancers treat the endpoints alike, apart from their health."""
    return (
        one.weight == other.weight
        and one.priority == other.priority
        and one.locality == other.locality
        and one.subset_labels == other.subset_labels
    )
