"""How names are resolved. Source: ``envoy.config.cluster.v3.Cluster`` and
``envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sidecar.back_off import BackOff
from sidecar.config.endpoint import SocketAddress


class DnsLookupFamily(Enum):
    AUTO = "AUTO"  # IPv6, or IPv4 if a name has no IPv6 address
    V4_ONLY = "V4_ONLY"
    V6_ONLY = "V6_ONLY"
    V4_PREFERRED = "V4_PREFERRED"
    ALL = "ALL"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsResolver:
    """``CaresDnsResolverConfig``. Without ``servers``, those of ``/etc/resolv.conf`` are used; with
    ``servers_are_fallback``, they are used if that file names any. ``search`` False: the search domains of
    that file are not tried. ``routable_families_alone``: addresses of a family that this machine has no route
    to are dropped."""

    servers: tuple[SocketAddress, ...] = ()
    servers_are_fallback: bool = False
    use_tcp: bool = False
    search: bool = True
    rotate: bool = False
    routable_families_alone: bool = False
    query_timeout_s: float = 5.0
    query_tries: int = 4

    @property
    def look_up_limit_s(self) -> float:
        """The longest time that one look-up can take, over all servers, tries, families and search
        domains."""
        return self.query_timeout_s * self.query_tries


SYSTEM_RESOLVER = DnsResolver()


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsDiscoveryConfig:
    """The DNS fields of a cluster of type STRICT_DNS or LOGICAL_DNS. ``failure_back_off`` is
    ``dns_failure_refresh_rate``; None: after a failure, the name is resolved again after
    ``refresh_rate_s``. ``resolver`` None: the resolver of the bootstrap file is used."""

    lookup_family: DnsLookupFamily = DnsLookupFamily.AUTO
    refresh_rate_s: float = 5.0
    jitter_s: float = 0.0
    failure_back_off: BackOff | None = None
    respect_ttl: bool = False
    wait_for_warm: bool = True
    resolver: DnsResolver | None = None


DEFAULT_DNS = DnsDiscoveryConfig()
