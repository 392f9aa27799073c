"""Every counter that the sidecar declares, and their values as its operator reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sidecar.observability.stats import (
    ClusterStats,
    Counters,
    GrpcStats,
    HostStats,
    Http2Stats,
    HttpConnectionManagerStats,
    ListenerStats,
    ProxyProtocolStats,
    TcpProxyStats,
    TracingStats,
)
from tests.support.running_sidecar import RunningSidecar

SCOPES: Mapping[type[Counters], str] = {
    HttpConnectionManagerStats: "http",
    ClusterStats: "cluster",
    HostStats: "host",
    ListenerStats: "listener",
    TcpProxyStats: "tcp",
}
"""What the names of each set begin with. ``host`` is for the lines of ``/clusters``."""

Values = dict[tuple[str, str], str]
"""By the declared name, as ``http.downstream_rq_total``, and by whose it is: a prefix or a host."""


def declared() -> frozenset[str]:
    """Without those of filters, of HTTP/2 and of tracing, which their own tests move."""
    kinds = {kind for kind in Counters.__subclasses__() if kind.__module__ == Counters.__module__}
    assert kinds == {*SCOPES, GrpcStats, Http2Stats, ProxyProtocolStats, TracingStats}
    return frozenset(f"{scope}.{name}" for kind, scope in SCOPES.items() for _, name in kind.names())


_NAMES = sorted(declared(), key=len, reverse=True)
_STAT = re.compile(r"(http|cluster|listener|tcp)\.(.*?)\.({})".format(
    "|".join(re.escape(name.partition(".")[2]) for name in _NAMES)
))  # fmt: skip


def read(sidecar: RunningSidecar) -> Values:
    """Those that are not zero, from ``/stats`` and ``/clusters``."""
    values: Values = {}
    for line in sidecar.ask("/stats?usedonly").body.splitlines():
        name, _, value = line.partition(": ")
        stat = _STAT.fullmatch(name)
        if stat is not None:
            values[f"{stat[1]}.{stat[3]}", stat[2]] = value
    for line in sidecar.ask("/clusters").body.splitlines():
        parts = line.split("::")
        if len(parts) == 4 and f"host.{parts[2]}" in declared() and parts[3] != "0":
            values[f"host.{parts[2]}", "::".join(parts[:2])] = parts[3]
    return values


def moved(before: Values, after: Values) -> set[str]:
    return {key[0] for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
