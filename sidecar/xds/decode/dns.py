"""The DNS fields of ``Cluster``, and ``CaresDnsResolverConfig`` of clusters and bootstrap files."""

from __future__ import annotations

from typing import Final

from sidecar.back_off import BackOff
from sidecar.config.dns import DEFAULT_DNS, DnsDiscoveryConfig, DnsLookupFamily, DnsResolver
from sidecar.config.endpoint import SocketAddress
from sidecar.xds.decode.support import TYPE_DECIDES, SupportTable, support
from sidecar.xds.decode.values import decode_ip_address
from sidecar.xds.decode.view import View

CARES = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
_DNS_PORT = 53


_CHANNELS = "sockets are opened again each second, by the system's files"

TABLE: Final[SupportTable] = {
    "envoy.config.cluster.v3.Cluster.RefreshRate": support("base_interval max_interval"),
    "envoy.config.core.v3.TypedExtensionConfig": support("typed_config", name=TYPE_DECIDES),
    CARES: support(
        "resolvers use_resolvers_as_fallback filter_unroutable_families dns_resolver_options "
        "query_timeout_seconds query_tries rotate_nameservers",
        udp_max_queries=_CHANNELS,
        max_udp_channel_duration=_CHANNELS,
        reinit_channel_on_timeout=_CHANNELS,
        edns0_max_payload_size="a truncated answer is requested again over TCP",
    ),
    "envoy.config.core.v3.DnsResolverOptions": support("use_tcp_for_dns_lookups no_default_search_domain"),
}


def decode_dns(cluster: View) -> DnsDiscoveryConfig:
    return DnsDiscoveryConfig(
        lookup_family=DnsLookupFamily[cluster.enum_name("dns_lookup_family")],
        refresh_rate_s=cluster.duration_s("dns_refresh_rate", DEFAULT_DNS.refresh_rate_s),
        jitter_s=cluster.duration_s("dns_jitter", DEFAULT_DNS.jitter_s),
        failure_back_off=_back_off(cluster.find("dns_failure_refresh_rate")),
        respect_ttl=cluster.message.respect_dns_ttl,
        wait_for_warm=cluster.wrapped("wait_for_warm_on_init", DEFAULT_DNS.wait_for_warm),
        resolver=decode_resolver(cluster),
    )


def decode_resolver(view: View) -> DnsResolver | None:
    """``typed_dns_resolver_config``; None if it is not set. Raises `ConfigError` for a resolver other than
    c-ares."""
    extension = view.find("typed_dns_resolver_config")
    return None if extension is None else _resolver(extension.unpack("typed_config", CARES))


def names_cares(view: View) -> bool:
    """Whether ``typed_dns_resolver_config`` configures c-ares."""
    extension = view.find("typed_dns_resolver_config")
    return extension is not None and extension.packed_type("typed_config") == CARES


def _back_off(view: View | None) -> BackOff | None:
    if view is None:
        return None
    base_s = view.duration_s("base_interval", 0.0)
    max_s = view.duration_s("max_interval", base_s * 10)
    if max_s < base_s:
        raise view.error(f"is {max_s:g} s, but must not be less than base_interval", "max_interval")
    return BackOff(base_s=base_s, max_s=max_s)


def _resolver(view: View) -> DnsResolver:
    options = view.get("dns_resolver_options").message
    default = DnsResolver()
    return DnsResolver(
        servers=tuple(_server(address) for address in view.each("resolvers")),
        servers_are_fallback=view.message.use_resolvers_as_fallback,
        use_tcp=options.use_tcp_for_dns_lookups,
        search=not options.no_default_search_domain,
        rotate=view.message.rotate_nameservers,
        routable_families_alone=view.message.filter_unroutable_families,
        query_timeout_s=float(view.wrapped("query_timeout_seconds", default.query_timeout_s)),
        query_tries=view.wrapped("query_tries", default.query_tries),
    )


def _server(view: View) -> SocketAddress:
    address = decode_ip_address(view)
    return SocketAddress(address.host, address.port or _DNS_PORT)
