"""``TcpProxy``: the terminal filter that forwards bytes."""

from __future__ import annotations

from typing import Final

from sidecar.config.listener import TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.xds.decode.access_log import decode_access_logs
from sidecar.xds.decode.support import NO_HASHING, SupportTable, support
from sidecar.xds.decode.values import metadata_strings
from sidecar.xds.decode.view import View
from sidecar.xds.decode.weights import check_weights

TCP_PROXY = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
_LB = "envoy.lb"
_MAX_DURATION = "max_downstream_connection_duration"

TABLE: Final[SupportTable] = {
    TCP_PROXY: support(
        "stat_prefix cluster weighted_clusters metadata_match idle_timeout max_connect_attempts access_log "
        "max_downstream_connection_duration max_downstream_connection_duration_jitter_percentage",
        hash_policy=NO_HASHING,
    ),
    f"{TCP_PROXY}.WeightedCluster": support("clusters"),
    f"{TCP_PROXY}.WeightedCluster.ClusterWeight": support("name weight metadata_match"),
}


def decode_tcp_proxy(view: View) -> TcpProxy:
    return TcpProxy(
        stat_prefix=view.message.stat_prefix,
        clusters=_tcp_clusters(view),
        idle_timeout_s=view.duration_s("idle_timeout", 3600.0),
        max_duration_s=view.duration_s(_MAX_DURATION, 0.0),
        max_duration_jitter=view.get(f"{_MAX_DURATION}_jitter_percentage").message.value / 100,
        max_connect_attempts=view.wrapped("max_connect_attempts", 1),
        access_logs=decode_access_logs(view),
    )


def _tcp_clusters(view: View) -> tuple[WeightedCluster, ...]:
    """The criteria of the filter apply to each cluster; those of a weighted cluster take precedence."""
    criteria = metadata_strings(view.message.metadata_match, _LB)
    if view.which("cluster_specifier") == "cluster":
        return (WeightedCluster(name=view.message.cluster, metadata_match=criteria),)
    weighted = view.get("weighted_clusters")
    clusters = tuple(
        WeightedCluster(
            name=cluster.message.name,
            weight=cluster.message.weight,
            metadata_match={**criteria, **metadata_strings(cluster.message.metadata_match, _LB)},
        )
        for cluster in weighted.each("clusters")
    )
    check_weights(weighted, [cluster.weight for cluster in clusters])
    return clusters
