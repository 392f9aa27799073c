"""``RouteAction``: where a request is sent, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.config.route import (
    DEFAULT_REPLAY_LIMIT_BYTES,
    ForwardAction,
    MaxStreamDuration,
    WeightedCluster,
)
from sidecar.xds.decode.hash_policy import decode_hash_policies
from sidecar.xds.decode.http_filters.registry import decode_per_filter_config
from sidecar.xds.decode.matchers import decode_regex_rewrite
from sidecar.xds.decode.retry_policy import decode_retry_policy
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.values import HEADER_OPERATIONS, decode_header_operations, metadata_strings
from sidecar.xds.decode.view import View
from sidecar.xds.decode.weights import check_weights

_LB = "envoy.lb"
_PACKAGE = "envoy.config.route.v3"
_NOT_FOUND_STATUS = {"SERVICE_UNAVAILABLE": 503, "NOT_FOUND": 404, "INTERNAL_SERVER_ERROR": 500}

TABLE: Final[SupportTable] = {
    f"{_PACKAGE}.RouteAction": support(
        "cluster cluster_header weighted_clusters cluster_not_found_response_code metadata_match "
        "prefix_rewrite regex_rewrite host_rewrite_literal auto_host_rewrite append_x_forwarded_host "
        "timeout idle_timeout retry_policy upgrade_configs max_stream_duration max_grpc_timeout "
        "grpc_timeout_offset",
        kept="hash_policy",
    ),
    f"{_PACKAGE}.RouteAction.MaxStreamDuration": support(
        "max_stream_duration grpc_timeout_header_max grpc_timeout_header_offset"
    ),
    f"{_PACKAGE}.RouteAction.UpgradeConfig": support("upgrade_type enabled connect_config"),
    f"{_PACKAGE}.RouteAction.UpgradeConfig.ConnectConfig": support(),
    f"{_PACKAGE}.WeightedCluster": support(
        "clusters total_weight", runtime_key_prefix="runtime keys are not supported"
    ),
    f"{_PACKAGE}.WeightedCluster.ClusterWeight": support(
        f"name weight metadata_match host_rewrite_literal typed_per_filter_config {HEADER_OPERATIONS}"
    ),
}


def decode_replay_limit_bytes(route: View, virtual_host: View) -> int:
    """``request_body_buffer_limit`` of the route, else of the virtual host, else the deprecated
    ``per_request_buffer_limit_bytes`` in the same order."""
    for field in ("request_body_buffer_limit", "per_request_buffer_limit_bytes"):
        for view in (route, virtual_host):
            if view.has(field):
                limit_bytes: int = view.wrapped(field, 0)
                return limit_bytes
    return DEFAULT_REPLAY_LIMIT_BYTES


def decode_forward_action(view: View, replay_limit_bytes: int) -> ForwardAction:
    message = view.message
    if message.prefix_rewrite and view.has("regex_rewrite"):
        raise view.error("prefix_rewrite and regex_rewrite must not both be set")
    upgrades, terminate_connect = _upgrades(view)
    rewrite = view.find("regex_rewrite")
    return ForwardAction(
        clusters=_clusters(view),
        cluster_header=message.cluster_header.lower(),
        cluster_not_found_status=_NOT_FOUND_STATUS[view.enum_name("cluster_not_found_response_code")],
        timeout_s=view.duration_s("timeout", 15.0),
        idle_timeout_s=_optional_duration_s(view, "idle_timeout"),
        max_grpc_timeout_s=_optional_duration_s(view, "max_grpc_timeout"),
        grpc_timeout_offset_s=view.duration_s("grpc_timeout_offset", 0.0),
        max_stream_duration=_max_stream_duration(view.find("max_stream_duration")),
        retry_policy=decode_retry_policy(view.find("retry_policy")),
        prefix_rewrite=message.prefix_rewrite,
        regex_rewrite=decode_regex_rewrite(rewrite) if rewrite else None,
        host_rewrite=message.host_rewrite_literal,
        auto_host_rewrite=view.wrapped("auto_host_rewrite", False),
        append_x_forwarded_host=message.append_x_forwarded_host,
        upgrades=upgrades,
        terminate_connect=terminate_connect,
        metadata_match=metadata_strings(message.metadata_match, _LB),
        replay_limit_bytes=replay_limit_bytes,
        hash_policies=decode_hash_policies(view),
    )


def _max_stream_duration(view: View | None) -> MaxStreamDuration | None:
    if view is None:
        return None
    return MaxStreamDuration(
        limit_s=_optional_duration_s(view, "max_stream_duration"),
        grpc_timeout_header_max_s=_optional_duration_s(view, "grpc_timeout_header_max"),
        grpc_timeout_header_offset_s=view.duration_s("grpc_timeout_header_offset", 0.0),
    )


def _optional_duration_s(view: View, field: str) -> float | None:
    return view.duration_s(field, 0.0) if view.has(field) else None


def _clusters(view: View) -> tuple[WeightedCluster, ...]:
    specifier = view.which("cluster_specifier")
    if specifier == "cluster":
        return (WeightedCluster(name=view.message.cluster),)
    if specifier == "weighted_clusters":
        return _weighted_clusters(view.get("weighted_clusters"))
    return ()  # a header names the cluster


def _weighted_clusters(view: View) -> tuple[WeightedCluster, ...]:
    clusters = tuple(
        WeightedCluster(
            name=cluster.message.name or _no_name(cluster),
            weight=cluster.wrapped("weight", 0),
            headers=decode_header_operations(cluster),
            metadata_match=metadata_strings(cluster.message.metadata_match, _LB),
            host_rewrite=cluster.message.host_rewrite_literal,
            per_filter_config=decode_per_filter_config(cluster),
        )
        for cluster in view.each("clusters")
    )
    total = check_weights(view, [cluster.weight for cluster in clusters])
    if view.has("total_weight") and view.message.total_weight.value != total:
        stated = view.message.total_weight.value
        raise view.error(f"is {stated}, but the sum of the weights is {total}", "total_weight")
    return clusters


def _no_name(cluster: View) -> str:
    raise cluster.error("must not be empty", "name")


def _upgrades(view: View) -> tuple[Mapping[str, bool], bool]:
    """Whether the route allows each upgrade that it configures, and whether it terminates CONNECT."""
    allowed: dict[str, bool] = {}
    terminate_connect = False
    for config in view.each("upgrade_configs"):
        upgrade = config.message.upgrade_type.lower()
        if upgrade in allowed:
            raise config.error(f"{upgrade!r} is a duplicate", "upgrade_type")
        if config.has("connect_config"):
            if upgrade != "connect":
                raise config.error("is only valid for the upgrade type CONNECT", "connect_config")
            terminate_connect = True
        allowed[upgrade] = config.wrapped("enabled", True)
    return allowed, terminate_connect
