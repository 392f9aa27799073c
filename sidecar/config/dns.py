"""How names are resolved. Source: ``envoy.config.cluster.v3.Cluster`` and
``envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sidecar.config.endpoint import SocketAddress


class DnsLookupFamily(Enum):
    AUTO = "AUTO"  # IPv6, or IPv4 where a name has no IPv6 address
    V4_ONLY = "V4_ONLY"
    V6_ONLY = "V6_ONLY"
    V4_PREFERRED = "V4_PREFERRED"
    ALL = "ALL"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsResolver:
    """``CaresDnsResolverConfig``. No ``servers``: those of ``/etc/resolv.conf``, as with
    ``servers_are_fallback`` where that file names some. ``search`` False: its search domains are not tried.
    ``routable_families_alone``: addresses that this machine has no route to are left out."""

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
        """The longest that one look-up may take, over all servers, tries, families and search domains."""
        return self.query_timeout_s * self.query_tries


SYSTEM_RESOLVER = DnsResolver()


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsBackOff:
    """``dns_failure_refresh_rate``: full jitter, up to a bound that doubles with each failure."""

    base_s: float
    max_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsDiscoveryConfig:
    """What a cluster of type STRICT_DNS or LOGICAL_DNS says of its names. ``failure_back_off`` None: a name
    that could not be resolved is tried again after ``refresh_rate_s``. ``resolver`` None: the bootstrap
    file's."""

    lookup_family: DnsLookupFamily = DnsLookupFamily.AUTO
    refresh_rate_s: float = 5.0
    jitter_s: float = 0.0
    failure_back_off: DnsBackOff | None = None
    respect_ttl: bool = False
    wait_for_warm: bool = True
    resolver: DnsResolver | None = None


DEFAULT_DNS = DnsDiscoveryConfig()
