"""The metadata of the proxy's xDS node that describe the pod, without its labels."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import replace
from typing import Final

from controlplane.errors import InjectionError
from controlplane.injection import names
from controlplane.injection.config import DataPlane
from controlplane.injection.context import TemplateContext
from controlplane.injection.pod import JsonObject, app_containers, items
from protos import node

_METADATA_PREFIX: Final = "ISTIO_META_"
_RESERVED: Final = frozenset({
    node.IDENTITY_DIR, node.INTERCEPTION_MODE, node.LABELS, node.NAMESPACE, node.SERVICE_ACCOUNT,
})  # fmt: skip


def pod_metadata(context: TemplateContext) -> JsonObject:
    containers = app_containers(context.pod)
    ports = [_port(port) for container in containers for port in items(container, "ports")]
    owner = replace(context.owner, name=context.owner.name or "$(POD_NAME)")
    metadata: JsonObject = {
        "NAME": "$(POD_NAME)",
        node.NODE_NAME: "$(NODE_NAME)",
        node.CLUSTER_ID: context.values.cluster_name,
        node.WORKLOAD_NAME: owner.name,
        "OWNER": owner.uri(context.request.namespace),
        "APP_CONTAINERS": ",".join(container["name"] for container in containers),
        "POD_PORTS": json.dumps(ports, separators=(",", ":")),  # Istio writes metadata as strings
    }
    if context.settings.data_plane is DataPlane.ENVOY:
        metadata[node.IDENTITY_DIR] = names.IDENTITY_FOLDER
    if context.settings.capture_dns:
        metadata[node.DNS_CAPTURE] = "true"
    return metadata | _own_metadata(context, metadata.keys() | _RESERVED)


def _own_metadata(context: TemplateContext, reserved: Set[str]) -> JsonObject:
    """Returns the metadata that variables of the pod's ProxyConfig set. Raises `InjectionError`."""
    metadata: JsonObject = {}
    for name, value in context.settings.proxy_config.proxy_metadata.items():
        key = name.removeprefix(_METADATA_PREFIX)
        if key in (name, node.DNS_CAPTURE):
            continue
        if key in reserved:
            raise InjectionError(f"proxyMetadata: {name}: the metadata {key} are set by the injector")
        metadata[key] = value
    return metadata


def _port(port: JsonObject) -> JsonObject:
    fields = {key: port[key] for key in ("name", "containerPort") if port.get(key)}
    return fields | {"protocol": port.get("protocol") or "TCP"}
