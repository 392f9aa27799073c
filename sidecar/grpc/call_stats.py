"""The sidecar's own calls in the statistics of the static clusters that they go to.

The names and their meanings are those of Envoy's cluster and host statistics. Each call has a connection of
its own, which counts from the attempt to open it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from sidecar.config.cluster import ClusterConfig
from sidecar.grpc.addresses import Replica
from sidecar.grpc_status import GrpcStatus, http_status_of_grpc
from sidecar.observability.stats import ClusterStats, Counters, HostStats, Http2Stats, Stats


class OwnCalls:
    """The own calls of a process, by static cluster."""

    def __init__(self, clusters: Mapping[str, ClusterConfig]) -> None:
        self._clusters: Final = clusters
        self._stats: Final = Stats()
        self._calls: Final[dict[str, ClusterCalls]] = {}

    def to(self, cluster: str) -> ClusterCalls:
        """Those to a static cluster, which exists."""
        calls = self._calls.get(cluster)
        if calls is None:
            name = self._clusters[cluster].alt_stat_name or cluster
            calls = ClusterCalls(self._stats.cluster(name), self._stats.http2(name))
            self._calls[cluster] = calls
        return calls

    def sets(self) -> Iterator[tuple[str, Counters]]:
        """As `Stats.sets`."""
        return self._stats.sets()

    def hosts(self, cluster: str) -> Iterator[tuple[Replica, HostStats]]:
        """None for a cluster without own calls."""
        if cluster in self._calls:
            yield from self._calls[cluster].hosts.items()


class ClusterCalls:
    """The calls to one cluster. Without arguments, the calls to a server that is not a static cluster: their
    counts are not shown."""

    def __init__(self, cluster: ClusterStats | None = None, http2: Http2Stats | None = None) -> None:
        self.cluster: Final = cluster or ClusterStats()
        self.http2: Final = http2 or Http2Stats()
        self.hosts: Final[dict[Replica, HostStats]] = {}

    def keep(self, replicas: Collection[Replica]) -> None:
        """Forgets the hosts that are no longer replicas, when they have no connection."""
        for replica in [each for each in self.hosts if each not in replicas]:
            if not self.hosts[replica].cx_active:
                del self.hosts[replica]

    def begin(self, replica: Replica) -> CallStats:
        """A connection to this replica is being opened, for a call."""
        return CallStats(self, self.hosts.setdefault(replica, HostStats()))

    def unanswered(self) -> None:
        """A call has got no response. As for requests of clients, an error counts in its place."""
        self.cluster.upstream_rq_completed += 1
        self.cluster.upstream_rq_5xx += 1

    def timed_out(self) -> None:
        """A call has taken all its time, if only to connect."""
        self.cluster.upstream_rq_timeout += 1


class CallStats:
    """One call: either `not_connected`, or `connected`, then perhaps `responded`, `ended` and at last
    `disconnected`."""

    def __init__(self, calls: ClusterCalls, host: HostStats) -> None:
        self._calls: Final = calls
        self._cluster: Final = calls.cluster
        self._http2: Final = calls.http2
        self._host: Final = host
        self._connected = False
        self._responded = False
        self._ended = False
        cluster = self._cluster
        cluster.upstream_cx_total += 1
        cluster.upstream_cx_active += 1
        cluster.upstream_cx_http2_total += 1
        cluster.upstream_rq_pending_total += 1
        cluster.upstream_rq_pending_active += 1
        host.cx_total += 1
        host.cx_active += 1

    # The connection.

    def not_connected(self, error: BaseException) -> None:
        """Without effect after `connected`: the connection is closed like any other."""
        if self._connected:
            return
        cluster, host = self._cluster, self._host
        cluster.upstream_rq_pending_active -= 1
        self._count_closed()
        if isinstance(error, asyncio.CancelledError):
            cluster.upstream_rq_cancelled += 1
            return
        cluster.upstream_cx_connect_fail += 1
        cluster.upstream_rq_pending_failure_eject += 1
        host.cx_connect_fail += 1
        host.rq_error += 1
        if isinstance(error, TimeoutError):
            cluster.upstream_cx_connect_timeout += 1
        elif isinstance(error, ssl.SSLCertVerificationError):
            cluster.ssl__fail_verify_error += 1
        elif isinstance(error, ssl.SSLError):
            cluster.ssl__connection_error += 1

    def connected(self, *, secured: bool) -> None:
        self._connected = True
        cluster, host = self._cluster, self._host
        cluster.ssl__handshake += secured
        cluster.upstream_rq_pending_active -= 1
        cluster.upstream_rq_total += 1
        cluster.upstream_rq_active += 1
        self._http2.streams_active += 1
        host.rq_total += 1
        host.rq_active += 1

    def received(self, size: int) -> None:
        self._cluster.upstream_cx_rx_bytes_total += size

    def sent(self, size: int) -> None:
        self._cluster.upstream_cx_tx_bytes_total += size

    def disconnected(self) -> None:
        self._count_closed()

    def _count_closed(self) -> None:
        self._cluster.upstream_cx_active -= 1
        self._cluster.upstream_cx_destroy += 1
        self._host.cx_active -= 1

    # The call.

    def responded(self, status: int, duration_s: float) -> None:
        """The head of the response has arrived. ``status`` is that of HTTP."""
        self._responded = True
        cluster = self._cluster
        cluster.upstream_rq_completed += 1
        cluster.upstream_rq_time.record(duration_s * 1000)
        if status >= 500:
            cluster.upstream_rq_5xx += 1
        elif status >= 400:
            cluster.upstream_rq_4xx += 1
        elif status >= 300:
            cluster.upstream_rq_3xx += 1
        else:
            cluster.upstream_rq_2xx += 1

    def trailers(self) -> None:
        self._http2.trailers += 1

    def reset_by_server(self) -> None:
        self._cluster.upstream_rq_rx_reset += 1
        self._http2.rx_reset += 1

    def reset_here(self) -> None:
        """The call has ended before its response."""
        self._cluster.upstream_rq_tx_reset += 1
        self._http2.tx_reset += 1

    def protocol_error(self, counter: str) -> None:
        """``counter``: the name of the codec for the error."""
        self._http2.count(counter)

    def timed_out(self) -> None:
        self._calls.timed_out()
        self._host.rq_timeout += 1

    def cut_short(self, *, by_server: bool) -> None:
        """The connection ends, and the call with it."""
        self._cluster.upstream_cx_destroy_with_active_rq += 1
        if by_server:
            self._cluster.upstream_cx_destroy_remote_with_active_rq += 1
        else:
            self._cluster.upstream_cx_destroy_local_with_active_rq += 1

    def keepalive_expired(self) -> None:
        self._http2.keepalive_timeout += 1
        self.cut_short(by_server=False)

    def ended(self, status: GrpcStatus | None) -> None:
        """The status judges the host as for requests of clients. None: this side needs the call no longer."""
        self._cluster.upstream_rq_active -= 1
        self._http2.streams_active -= 1
        self._host.rq_active -= 1
        if status is None:
            return
        if not self._responded:
            self._calls.unanswered()
        if http_status_of_grpc(status) >= 500:
            self._host.rq_error += 1
        else:
            self._host.rq_success += 1
