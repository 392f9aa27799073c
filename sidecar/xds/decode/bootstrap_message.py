"""The message of a bootstrap file: ``envoy.config.bootstrap.v3.Bootstrap``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, Final, TypeVar

from google.protobuf import json_format

from sidecar.config.bootstrap import Bootstrap
from sidecar.config.cluster import ClusterConfig
from sidecar.config.dns import SYSTEM_RESOLVER
from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import Listener
from sidecar.config.snapshot import Snapshot
from sidecar.config.tls import Secret
from sidecar.xds.decode.ads import decode_ads
from sidecar.xds.decode.cluster import decode_cluster
from sidecar.xds.decode.dns import decode_resolver, names_cares
from sidecar.xds.decode.listener import decode_listener
from sidecar.xds.decode.support import STATISTICS_ONLY, SupportTable, support
from sidecar.xds.decode.tls import decode_secret
from sidecar.xds.decode.values import decode_ip_address
from sidecar.xds.decode.view import View
from sidecar.xds.references import unknown_cluster_in_listener

_NAMED = TypeVar("_NAMED", Listener, ClusterConfig, Secret)

_SENT = "is sent to the control plane unchanged"
_NO_WATCHDOG = "a worker that takes no configuration within 60 s is replaced"
_NO_SINK = "no statistics sink is supported"
_NO_ADMIN_LOG = "the admin server logs nothing"

TABLE: Final[SupportTable] = {
    "envoy.config.bootstrap.v3.Bootstrap": support(
        "node admin static_resources dynamic_resources typed_dns_resolver_config",
        node_context_params="resource names have no context parameters",
        cluster_manager="tunes the cluster manager's own log and local cluster",
        stats_config=STATISTICS_ONLY,
        deferred_stat_options=STATISTICS_ONLY,
        stats_flush_interval=_NO_SINK,
        stats_flush_on_admin=_NO_SINK,
        enable_dispatcher_stats=STATISTICS_ONLY,
        watchdog=_NO_WATCHDOG,
        watchdogs=_NO_WATCHDOG,
        layered_runtime="no feature depends on a runtime key",
        default_regex_engine="RE2 is the only engine",
        inline_headers="tunes Envoy's header map",
        memory_allocator_manager="tunes Envoy's allocator",
        stats_server_version_override=STATISTICS_ONLY,
    ),
    "envoy.config.core.v3.Node": support(
        "id cluster metadata",
        locality=_SENT,
        dynamic_parameters=_SENT,
        user_agent_name=_SENT,
        user_agent_version=_SENT,
        user_agent_build_version=_SENT,
        extensions=_SENT,
        client_features=_SENT,
        listening_addresses=_SENT,
    ),
    "envoy.config.bootstrap.v3.Bootstrap.StaticResources": support("listeners clusters secrets"),
    "envoy.config.bootstrap.v3.Admin": support(
        "address",
        access_log=_NO_ADMIN_LOG,
        access_log_path=_NO_ADMIN_LOG,
        profile_path="no profiler exists",
        ignore_global_conn_limit="no global limit exists",
    ),
}


def decode_bootstrap_message(view: View, *, message: bytes, node_document: Mapping[str, Any]) -> Bootstrap:
    """The last two are `Bootstrap`'s. Raises `ConfigError`."""
    node = view.get("node").message
    static_resources = view.get("static_resources")
    static = _static_snapshot(static_resources)
    return Bootstrap(
        node=node.SerializeToString(),
        node_id=node.id,
        node_cluster=node.cluster,
        node_document=node_document,
        node_metadata=json_format.MessageToDict(node.metadata),
        admin_address=_admin_address(view.get("admin")),
        static=static,
        dns_resolver=(decode_resolver(view) if names_cares(view) else None) or SYSTEM_RESOLVER,
        ads=decode_ads(view.get("dynamic_resources"), static),
        message=message,
    )


def _admin_address(admin: View) -> SocketAddress | None:
    return decode_ip_address(admin.get("address")) if admin.has("address") else None


def _static_snapshot(view: View) -> Snapshot:
    secrets = _by_name(view, "secrets", (decode_secret(secret) for secret in view.each("secrets")))
    names = frozenset(secrets)
    clusters = _by_name(
        view, "clusters", (decode_cluster(cluster, names) for cluster in view.each("clusters"))
    )
    listeners = _by_name(
        view, "listeners", (decode_listener(listener, names) for listener in view.each("listeners"))
    )
    _check_clusters(view, listeners, frozenset(clusters))
    return Snapshot(listeners=listeners, clusters=clusters, secrets=secrets)


def _by_name(view: View, field: str, resources: Iterable[_NAMED]) -> Mapping[str, _NAMED]:
    named: dict[str, _NAMED] = {}
    for index, resource in enumerate(resources):
        if resource.name in named:
            raise view.error(f"{resource.name!r} is a duplicate name", f"{field}[{index}].name")
        named[resource.name] = resource
    return named


def _check_clusters(view: View, listeners: Mapping[str, Listener], clusters: Set[str]) -> None:
    for index, listener in enumerate(listeners.values()):
        if missing := unknown_cluster_in_listener(listener, clusters):
            raise view.error(f"a route refers to the unknown cluster {missing!r}", f"listeners[{index}]")
