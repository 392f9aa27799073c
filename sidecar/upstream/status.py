"""A cluster and its hosts at one moment, as values for the admin's ``/clusters``."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.config.endpoint import Endpoint
from sidecar.observability.stats import HostStats
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.host import Host


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """``health_flags`` in Envoy's form. ``ejected``: by outlier detection."""

    endpoint: Endpoint
    stats: HostStats
    ejected: bool
    health_flags: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    name: str
    hosts: tuple[HostStatus, ...]


def cluster_status(cluster: Cluster) -> ClusterStatus:
    hosts = tuple(_host_status(host) for host in cluster.hosts.values())
    return ClusterStatus(name=cluster.name, hosts=hosts)


def _host_status(host: Host) -> HostStatus:
    return HostStatus(
        endpoint=host.endpoint, stats=host.stats, ejected=host.ejected, health_flags=host.health_flags
    )
