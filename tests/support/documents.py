"""Resources as documents: the decoded form of YAML files. A test changes the fields that it is about."""

from __future__ import annotations

from typing import Any

from controlplane.errors import InvalidResourceError
from controlplane.kinds.registry import KINDS
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Origin
from controlplane.model.store import Store

Document = dict[str, Any]


def document(kind: str, name: str, spec: object, namespace: str = "default", **metadata: object) -> Document:
    group = {"Service": "", "Namespace": "", "PeerAuthentication": "security.istio.io/"}.get(
        kind, "networking.istio.io/"
    )
    return {
        "apiVersion": f"{group}v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec,
    }


def service(name: str, namespace: str = "default", **spec: object) -> Document:
    fields = {"selector": {"app": name}, "ports": [{"name": "http", "port": 9080}], **spec}
    return document("Service", name, fields, namespace)


def workload(
    name: str, address: str, labels: dict[str, str], namespace: str = "default", **spec: object
) -> Document:
    return document("WorkloadEntry", name, {"address": address, "labels": labels, **spec}, namespace)


def destination(host: str, subset: str | None = None, weight: int | None = None) -> Document:
    target = {"host": host} if subset is None else {"host": host, "subset": subset}
    return {"destination": target} if weight is None else {"destination": target, "weight": weight}


def virtual_service(name: str, hosts: list[str], *route: Document, **metadata: Any) -> Document:
    return document("VirtualService", name, {"hosts": hosts, "http": [{"route": list(route)}]}, **metadata)


def destination_rule(name: str, host: str, *subsets: str, **metadata: Any) -> Document:
    spec = {"host": host, "subsets": [{"name": each, "labels": {"version": each}} for each in subsets]}
    return document("DestinationRule", name, spec, **metadata)


def key_of(resource: Document) -> ResourceKey:
    kind, namespace, name = KINDS.identify(resource)
    return ResourceKey(kind=kind, namespace=namespace, name=name)


def feed_cluster(store: Store, resource: Document, generation: int, uid: str = "") -> None:
    """As a cluster tells of a resource."""
    origin = Origin(file="Kubernetes", generation=generation, uid=uid or f"uid of {key_of(resource)}")
    try:
        store.apply(key_of(resource), KINDS.parse(resource, served=True), origin)
    except InvalidResourceError as error:
        store.reject(key_of(resource), error.errors, origin)


def feed(store: Store, *resources: Document, file: str = "mesh.yaml") -> None:
    """As a source does it, every document being valid."""
    for line, resource in enumerate(resources, start=1):
        store.apply(key_of(resource), KINDS.parse(resource), Origin(file=file, line=line))
