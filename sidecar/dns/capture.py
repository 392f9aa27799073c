"""The DNS resolver of a sidecar, made from its settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from sidecar.config.bootstrap import Bootstrap
from sidecar.config.dns import DnsResolver
from sidecar.dns.forwarder import QuestionForwarder
from sidecar.dns.names import surroundings
from sidecar.dns.resolv_conf import DNS_PORT, ResolvConf, Upstream, read_resolv_conf, upstreams
from sidecar.dns.resolver import Resolver
from sidecar.dns.server import DnsServer
from sidecar.dns.stats import DnsStats

_LOG = logging.getLogger(__name__)

# Of the C library, where ``resolv.conf`` has none.
_DEFAULT: Final = ("127.0.0.1", DNS_PORT)


def dns_server(bootstrap: Bootstrap, port: int, *, expects_names: Callable[[], bool]) -> DnsServer:
    """It will listen on ``port``. ``expects_names``: see `Resolver`."""
    system = read_resolv_conf()
    stats = DnsStats()
    resolver = Resolver(
        QuestionForwarder(upstreams_for(bootstrap.dns_resolver, system, port), stats),
        stats,
        surroundings(bootstrap.node_id, system.search),
        expects_names=expects_names,
    )
    return DnsServer(resolver)


def upstreams_for(configured: DnsResolver, system: ResolvConf, own_port: int) -> tuple[Upstream, ...]:
    """The resolvers that the sidecar itself uses: those of the bootstrap file, or those of the pod. Never the
    sidecar, whose queries would then come back to it for ever."""
    found = system.servers
    if configured.servers and not (configured.servers_are_fallback and system.servers):
        found = upstreams((each.host, each.port) for each in configured.servers)
    others = tuple(each for each in found or upstreams([_DEFAULT]) if not _is_own(each, own_port))
    if not others:
        _LOG.warning("there is no DNS resolver for the names that are not in the name table")
    return others


def _is_own(upstream: Upstream, own_port: int) -> bool:
    host, port = upstream.address[:2]
    return port == own_port and host in ("127.0.0.1", "::1")
