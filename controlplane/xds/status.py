"""The state of each stream for `/debug/syncz` and `/debug/config_dump`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from controlplane.xds.connections import Connection
from controlplane.xds.resource import Resource
from controlplane.xds.watch import Watch
from protos import type_urls


class SyncState(Enum):
    """The states of ``istioctl proxy-status``. ERROR means that the proxy rejected a response."""

    NOT_SENT = "NOT SENT"
    SYNCED = "SYNCED"
    STALE = "STALE"  # sent and not answered yet, or still to be sent
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeStatus:
    """One resource type of one stream. Ages are in seconds; None if the event never happened. ``rejection``
    is the proxy's text; while it is set, the proxy uses ``accepted_version``."""

    state: SyncState
    resources: int
    sent_version: str
    sent_nonce: str
    sent_age_s: float | None
    accepted_version: str
    accepted_nonce: str
    accepted_age_s: float | None
    rejected_version: str
    rejected_age_s: float | None
    rejection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStatus:
    """One stream of one proxy. The keys of ``types`` are the values of `protos.type_urls.SHORT_NAMES`."""

    proxy_id: str
    connection_id: str
    proxy_type: str
    namespace: str
    workload: str
    version: str
    variant: str
    peer: str
    connected_age_s: float
    types: dict[str, TypeStatus]


def proxy_status(connection: Connection, now: float) -> ProxyStatus:
    watches = connection.stream.watches
    return ProxyStatus(
        proxy_id=connection.proxy.id,
        connection_id=connection.id,
        proxy_type=connection.proxy.type.value,
        namespace=connection.proxy.namespace,
        workload=connection.proxy.workload,
        version=connection.version,
        variant=connection.stream.variant,
        peer=connection.peer,
        connected_age_s=now - connection.connected_at,
        types={
            short: type_status(watches[type_url], now)
            for type_url, short in type_urls.SHORT_NAMES.items()
            if type_url in watches
        },
    )


def type_status(watch: Watch, now: float) -> TypeStatus:
    sent, accepted, rejection = watch.acks.sent, watch.acks.accepted, watch.acks.rejection
    return TypeStatus(
        state=_state(watch),
        resources=len(watch.held),
        sent_version=sent.version if sent else "",
        sent_nonce=sent.nonce if sent else "",
        sent_age_s=now - sent.at if sent else None,
        accepted_version=accepted.version if accepted else "",
        accepted_nonce=accepted.nonce if accepted else "",
        accepted_age_s=now - accepted.at if accepted else None,
        rejected_version=rejection.version if rejection else "",
        rejected_age_s=now - rejection.at if rejection else None,
        rejection=rejection.reason if rejection else "",
    )


def _state(watch: Watch) -> SyncState:
    if watch.acks.rejection is not None:
        return SyncState.ERROR
    if watch.acks.sent is None:
        return SyncState.NOT_SENT
    return SyncState.SYNCED if watch.acks.settled and not watch.owes else SyncState.STALE


def config_dump(connection: Connection) -> dict[str, Any]:
    """Returns the proxy's last sent resources in the format of Envoy's `/config_dump?include_eds`. Can be
    called from any thread: it copies the references before it renders them."""
    watches = connection.stream.watches
    return {
        "configs": [
            render(list(watches[type_url].held.values()), _version(watches[type_url]))
            for type_url, render in _SECTIONS.items()
            if type_url in watches
        ]
    }


def _version(watch: Watch) -> str:
    return watch.acks.sent.version if watch.acks.sent else ""


def _clusters(resources: Sequence[Resource], version: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
        "version_info": version,
        "dynamic_active_clusters": [_entry("cluster", resource) for resource in resources],
    }


def _endpoints(resources: Sequence[Resource], _: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump",
        "dynamic_endpoint_configs": [_entry("endpoint_config", resource) for resource in resources],
    }


def _listeners(resources: Sequence[Resource], version: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
        "version_info": version,
        "dynamic_listeners": [
            {"name": resource.name, "active_state": _entry("listener", resource)} for resource in resources
        ],
    }


def _routes(resources: Sequence[Resource], _: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
        "dynamic_route_configs": [_entry("route_config", resource) for resource in resources],
    }


def _names(resources: Sequence[Resource], version: str) -> dict[str, Any]:
    """Envoy has no such section: its name is the type's own."""
    tables = [MessageToDict(each.message, preserving_proto_field_name=True) for each in resources]
    return {"@type": type_urls.NAME_TABLE, "version_info": version, "name_tables": tables}


_SECTIONS: Final[dict[str, Callable[[Sequence[Resource], str], dict[str, Any]]]] = {
    type_urls.CLUSTER: _clusters,
    type_urls.ENDPOINT: _endpoints,
    type_urls.LISTENER: _listeners,
    type_urls.ROUTE: _routes,
    type_urls.NAME_TABLE: _names,
}


def _entry(key: str, resource: Resource) -> dict[str, Any]:
    # Rendered from the packed message, which adds "@type", as in Envoy's dumps.
    return {
        "version_info": resource.version,
        key: MessageToDict(resource.packed, preserving_proto_field_name=True),
    }
