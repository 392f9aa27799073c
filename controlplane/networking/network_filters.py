"""Network and listener filters other than HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.listener.original_src.v3.original_src_pb2 import OriginalSrc
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy

from controlplane.networking.messages import extension, uint32
from controlplane.resources.destination_rule import TCPSettings

ORIGINAL_DST: Final = extension("envoy.filters.listener.original_dst", OriginalDst())
# The mark by which the interception rules of TPROXY recognize connections to the application.
ORIGINAL_SRC: Final = extension("envoy.filters.listener.original_src", OriginalSrc(mark=1337))
TLS_INSPECTOR: Final = extension("envoy.filters.listener.tls_inspector", TlsInspector())

# A connection that failed to open carried no data: another host is always safe to try.
_CONNECT_ATTEMPTS: Final = 3


def tcp_proxy(
    clusters: Sequence[tuple[str, int]], stat_prefix: str, settings: TCPSettings | None = None
) -> dict[str, Any]:
    """Forwards bytes to one of the clusters, by their weights, within the time limits of ``settings``."""
    proxy = TcpProxy(stat_prefix=stat_prefix, max_connect_attempts=uint32(_CONNECT_ATTEMPTS))
    if len(clusters) == 1:
        proxy.cluster = clusters[0][0]
    else:
        for name, weight in clusters:
            proxy.weighted_clusters.clusters.add(name=name, weight=weight)
    if settings is not None and settings.idle_timeout is not None:
        proxy.idle_timeout.FromTimedelta(settings.idle_timeout)
    if settings is not None and settings.max_connection_duration is not None:
        proxy.max_downstream_connection_duration.FromTimedelta(settings.max_connection_duration)
    return extension("envoy.filters.network.tcp_proxy", proxy)
