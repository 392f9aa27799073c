"""Reads the properties that the mesh needs from Pods, Nodes and EndpointSlices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from controlplane.kubernetes.api import Document
from controlplane.kubernetes.list_watch import ObjectName
from controlplane.model.service import Registry, Workload
from protos.node import TLS_MODE_LABEL

# A pod with a container of this name has an Outrigger sidecar, regardless of its labels.
SIDECAR_CONTAINER: Final = "outrigger-sidecar"

_SERVICE_NAME: Final = "kubernetes.io/service-name"
_REGION: Final = "topology.kubernetes.io/region"
_ZONE: Final = "topology.kubernetes.io/zone"
_SUB_ZONE: Final = "topology.istio.io/subzone"
_ENDED: Final = ("Succeeded", "Failed")
# The labels whose value is the hash at the end of a ReplicaSet's name, for a Deployment and for an Argo
# Rollout.
_TEMPLATE_HASHES: Final = ("pod-template-hash", "rollouts-pod-template-hash")
_DEPLOYMENT_CONFIG: Final = (
    "deploymentconfig"  # the label of OpenShift's DeploymentConfig, which creates ReplicationControllers
)
# The names of a CronJob's Jobs end with the scheduled time, in minutes.
_CRON_JOB_TIME: Final = re.compile(r"-\d{8,10}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceEndpoint:
    """``pod`` is None if the endpoint is not a pod. ``uid`` is empty if any pod of that name matches.
    ``hostname`` is the hostname of a pod whose ``subdomain`` is the Service."""

    addresses: tuple[str, ...]
    ready: bool
    node: str
    pod: ObjectName | None
    uid: str
    hostname: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """``ports`` maps the names of the Service's ports to the port numbers of the endpoints."""

    service: str
    namespace: str
    ports: dict[str, int] = field(default_factory=dict)
    endpoints: tuple[SliceEndpoint, ...] = ()


def read_pod(document: Document) -> Workload | None:
    """Returns None for a pod that has ended. A pod without an address is still starting: its proxy may
    connect before the API server knows the address. The result has no locality, which comes from the node."""
    metadata, spec, status = document["metadata"], document["spec"], document.get("status", {})
    if status.get("phase") in _ENDED:
        return None
    address = status.get("podIP") or ""
    labels = metadata.get("labels") or {}
    return Workload(
        name=metadata["name"],
        namespace=metadata["namespace"],
        address=address,
        labels=labels,
        service_account=spec.get("serviceAccountName", ""),
        mesh_tls=labels.get(TLS_MODE_LABEL) == "istio" or _has_sidecar(spec),
        healthy=_is_ready(status) and "deletionTimestamp" not in metadata,
        registry=Registry.KUBERNETES,
        uid=metadata["uid"],
        node=spec.get("nodeName", ""),
        addresses=_addresses(address, status),
        owner=pod_owner(metadata),
    )


def _addresses(address: str, status: Document) -> tuple[str, ...]:
    """Returns the pod's addresses. ``podIPs`` has one for each IP family; ``podIP`` is the first of them."""
    found = (each.get("ip", "") for each in status.get("podIPs") or ())
    return tuple(dict.fromkeys(each for each in (address, *found) if each))


def pod_owner(metadata: Document) -> str:
    """Returns the name of the workload that a pod belongs to, by the same rules as Istio: the name of the
    Deployment or CronJob rather than that of the ReplicaSet or Job that it created. Empty for a pod without
    an owner."""
    owners = metadata.get("ownerReferences") or ()
    controller = next((owner for owner in owners if owner.get("controller")), None)
    if controller is None or not metadata.get("generateName"):
        return ""
    kind, name = controller["kind"], str(controller["name"])
    labels = metadata.get("labels") or {}
    if kind == "ReplicaSet":
        hashes = (labels.get(label) for label in _TEMPLATE_HASHES)
        suffix = next((f"-{each}" for each in hashes if each and name.endswith(f"-{each}")), "")
        return name.removesuffix(suffix) or name
    if kind == "ReplicationController":
        return labels.get(_DEPLOYMENT_CONFIG) or name
    if kind == "Job":
        return _CRON_JOB_TIME.sub("", name) or name
    return name


def _has_sidecar(spec: Document) -> bool:
    """Whether the pod has a sidecar. A native sidecar is an init container that keeps running."""
    containers = [*spec.get("containers", ()), *(spec.get("initContainers") or ())]
    return any(container["name"] == SIDECAR_CONTAINER for container in containers)


def _is_ready(status: Document) -> bool:
    conditions = status.get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def read_locality(node: Document) -> str:
    """Returns "region/zone/sub-zone". Empty if the node has no region, because a zone is only meaningful
    within its region."""
    labels = node["metadata"].get("labels") or {}
    parts = [labels.get(label, "") for label in (_REGION, _ZONE, _SUB_ZONE)]
    known = parts[: parts.index("")] if "" in parts else parts
    return "/".join(known)


def read_slice(document: Document) -> Slice | None:
    """Returns None for a slice without a Service, or with DNS names as endpoints (deprecated)."""
    metadata = document["metadata"]
    service = (metadata.get("labels") or {}).get(_SERVICE_NAME)
    if not service or document["addressType"] not in ("IPv4", "IPv6"):
        return None
    return Slice(
        service=service,
        namespace=metadata["namespace"],
        ports=dict(_tcp_ports(document)),
        endpoints=tuple(
            _read_endpoint(each, metadata["namespace"]) for each in document.get("endpoints") or ()
        ),
    )


def _tcp_ports(document: Document) -> Iterator[tuple[str, int]]:
    for port in document.get("ports") or ():
        if port.get("protocol", "TCP") == "TCP" and port.get("port"):
            yield port.get("name") or "", port["port"]


def _read_endpoint(endpoint: Document, namespace: str) -> SliceEndpoint:
    """Reads an endpoint. In a slice that was written by hand, ``targetRef`` may have no namespace and uid, or
    name another namespace."""
    target = endpoint.get("targetRef") or {}
    is_pod = target.get("kind") == "Pod" and target.get("name")
    # EndpointConditions.ready: null (unknown) means ready.
    ready = (endpoint.get("conditions") or {}).get("ready")
    return SliceEndpoint(
        addresses=tuple(endpoint["addresses"]),
        ready=ready is not False,
        node=endpoint.get("nodeName") or "",
        pod=(target.get("namespace") or namespace, target["name"]) if is_pod else None,
        uid=target.get("uid", ""),
        hostname=endpoint.get("hostname") or "",
    )
