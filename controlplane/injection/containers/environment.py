"""The environment of the proxy: the pod's identity, and the proxy's bootstrap document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from controlplane.errors import InjectionError
from controlplane.injection import names
from controlplane.injection.bootstrap_document import Address, Bootstrap
from controlplane.injection.config import DataPlane
from controlplane.injection.containers.node import pod_metadata
from controlplane.injection.context import TemplateContext
from controlplane.injection.dollars import escape
from controlplane.injection.pod import JsonObject
from protos.node import NodeId

# Kubernetes replaces references to variables that come earlier in the list.
_DOWNWARD: Final = {
    "POD_NAME": "metadata.name",
    "POD_NAMESPACE": "metadata.namespace",
    "INSTANCE_IP": "status.podIP",
    "HOST_IP": "status.hostIP",
    "SERVICE_ACCOUNT": "spec.serviceAccountName",
    "NODE_NAME": "spec.nodeName",
}
# The labels for metrics. The variable of a label that the pod does not have is empty.
_LABELS: Final = {
    "app": "POD_LABEL_APP",
    "version": "POD_LABEL_VERSION",
    names.CANONICAL_NAME: "POD_LABEL_CANONICAL_NAME",
    names.CANONICAL_REVISION: "POD_LABEL_CANONICAL_REVISION",
}
_FIELDS: Final = {
    **_DOWNWARD,
    **{variable: f"metadata.labels['{label}']" for label, variable in _LABELS.items()},
}
_RESERVED: Final = frozenset({
    *_FIELDS, names.CONFIG_YAML, names.APP_PROBERS, names.PROMETHEUS_SCRAPE, names.DNS_CAPTURE,
})  # fmt: skip
_REFERENCES: Final = tuple(f"$({name})" for name in _FIELDS)


def environment(context: TemplateContext, *, proxy_type: str) -> list[JsonObject]:
    """Returns the variables in the order in which they refer to each other. Raises `InjectionError`."""
    variables: list[JsonObject] = [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in _FIELDS.items()
    ]
    variables.append({"name": names.CONFIG_YAML, "value": bootstrap_json(context, proxy_type)})
    if context.settings.capture_dns:
        variables.append({"name": names.DNS_CAPTURE, "value": "true"})
    for name, value in context.settings.proxy_config.proxy_metadata.items():
        if name in _RESERVED:
            raise InjectionError(f"proxyMetadata: the variable {name} is set by the injector")
        variables.append({"name": name, "value": value})
    return variables


def bootstrap_json(context: TemplateContext, proxy_type: str) -> str:
    """Returns the bootstrap document, in which the container's variables are references."""
    settings = context.settings
    envoy = settings.data_plane is DataPlane.ENVOY
    bootstrap = Bootstrap(
        node_id=NodeId(
            proxy_type=proxy_type,
            ip="$(INSTANCE_IP)",
            workload="$(POD_NAME)",
            namespace="$(POD_NAMESPACE)",
            dns_domain=f"$(POD_NAMESPACE).svc.{context.request.mesh_config.dns_domain}",
        ),
        node_cluster=f"{context.canonical_name}.$(POD_NAMESPACE)",
        xds_address=Address.parse(context.control_plane_address),
        ca_certificate=Path(names.ROOTS_FILE),
        service_account="$(SERVICE_ACCOUNT)",
        labels={label: f"$({variable})" for label, variable in _LABELS.items()},
        metadata=pod_metadata(context),
        admin_port=settings.admin_port,
        interception=settings.interception,
        token_file=Path(names.TOKEN_FILE) if envoy else None,
    )
    document = _merge(bootstrap.document(), settings.bootstrap_override)
    text = escape(json.dumps(document, separators=(",", ":")))
    for reference in _REFERENCES:
        text = text.replace(f"${reference}", reference)
    return text


def _merge(base: Any, override: Any) -> Any:
    """Merges as Envoy merges ``--config-yaml``: objects by field, and lists by appending."""
    if isinstance(base, dict) and isinstance(override, dict):
        return base | {key: _merge(base.get(key), value) for key, value in override.items()}
    if isinstance(base, list) and isinstance(override, list):
        return base + override
    return override
