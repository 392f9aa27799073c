"""Network and listener filters other than HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.listener.original_src.v3.original_src_pb2 import OriginalSrc
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy

from controlplane.networking.messages import extension, uint32

ORIGINAL_DST: Final = extension("envoy.filters.listener.original_dst", OriginalDst())
# The mark by which the interception rules of TPROXY recognize connections to the application.
ORIGINAL_SRC: Final = extension("envoy.filters.listener.original_src", OriginalSrc(mark=1337))
TLS_INSPECTOR: Final = extension("envoy.filters.listener.tls_inspector", TlsInspector())

# A connection that failed to open carried no data: another host is always safe to try.
_CONNECT_ATTEMPTS: Final = 3


def tcp_proxy(
    clusters: Sequence[tuple[str, int]], stat_prefix: str, idle_timeout: timedelta | None = None
) -> dict[str, Any]:
    """Forwards bytes to one of the clusters, by their weights."""
    proxy = TcpProxy(stat_prefix=stat_prefix, max_connect_attempts=uint32(_CONNECT_ATTEMPTS))
    if len(clusters) == 1:
        proxy.cluster = clusters[0][0]
    else:
        for name, weight in clusters:
            proxy.weighted_clusters.clusters.add(name=name, weight=weight)
    if idle_timeout is not None:
        proxy.idle_timeout.FromTimedelta(idle_timeout)
    return extension("envoy.filters.network.tcp_proxy", proxy)
