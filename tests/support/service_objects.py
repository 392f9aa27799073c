"""Services and EndpointSlices as the Kubernetes API gives them."""

from __future__ import annotations

from typing import Any

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.following import Collection, key


def collection(*resources: Resource) -> Collection:
    return {key(resource): resource for resource in resources}


def service(name: str, cluster_ip: str, *ports: Resource, **spec: Any) -> Resource:
    return {
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"clusterIP": cluster_ip, "ports": list(ports), **spec},
    }


def slice_of(
    name: str,
    *endpoints: Resource,
    ports: list[Resource] | None = None,
    suffix: str = "1",
    kind: str = "IPv4",
) -> Resource:
    """One of the Service's slices; by default with the nameless port 9080."""
    return {
        "metadata": {
            "namespace": "shop",
            "name": f"{name}-{suffix}",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": kind,
        "endpoints": list(endpoints),
        "ports": [{"name": "", "port": 9080, "protocol": "TCP"}] if ports is None else ports,
    }


def endpoint(address: str, hostname: str | None = None, **conditions: bool | None) -> Resource:
    named = {} if hostname is None else {"hostname": hostname}
    return {"addresses": [address], "conditions": conditions, **named}
