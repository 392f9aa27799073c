"""Namespaces, Nodes and Pods as a cluster's watches report them, and requests for the injection of pods."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from controlplane.kubernetes.api import Document
from controlplane.kubernetes.list_watch import Changes
from controlplane.model.mesh_config import MeshConfig
from controlplane.webhooks.admission import AdmissionRequest
from controlplane.webhooks.cluster_objects import ClusterObjects
from controlplane.webhooks.injection_config import InjectionConfigFile
from controlplane.webhooks.mutate import InjectionInputs


def labelled(name: str, labels: dict[str, str] | None = None) -> Document:
    return {
        "metadata": {"name": name, "labels": {"istio-injection": "enabled"} if labels is None else labels}
    }


def node(name: str, version: str | None) -> Document:
    info = {} if version is None else {"nodeInfo": {"kubeletVersion": version}}
    return {"metadata": {"name": name}, "status": info}


def pod(
    name: str,
    namespace: str = "bookinfo",
    *,
    containers: tuple[str, ...] = ("app",),
    init_containers: tuple[str, ...] = (),
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    phase: str = "Running",
    **spec: Any,
) -> Document:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels or {},
            "annotations": annotations or {},
        },
        "spec": {
            "containers": [{"name": each, "image": each} for each in containers],
            "initContainers": [{"name": each, "image": each} for each in init_containers],
            **spec,
        },
        "status": {"phase": phase},
    }


def cluster_objects(
    namespaces: tuple[Document, ...] = (), nodes: tuple[Document, ...] = (), pods: tuple[Document, ...] = ()
) -> ClusterObjects:
    objects = ClusterObjects()
    objects.take_namespaces(Changes(present=namespaces))
    objects.take_nodes(Changes(present=nodes))
    objects.take_pods(Changes(present=pods))
    return objects


def inputs(
    objects: ClusterObjects, config_file: InjectionConfigFile | None = None, revision: str = "default"
) -> InjectionInputs:
    return InjectionInputs(
        config_file=config_file
        or InjectionConfigFile(None, "outrigger-system", registry=CollectorRegistry()),
        mesh=MeshConfig(),
        revision=revision,
        objects=objects,
    )


def creation(document: Document, **changes: Any) -> AdmissionRequest:
    """The API server's question about a new pod."""
    fields: dict[str, Any] = {
        "uid": "u",
        "operation": "CREATE",
        "namespace": document["metadata"].get("namespace", ""),
        "name": document["metadata"].get("name", ""),
        "group": "",
        "version": "v1",
        "kind": "Pod",
        "resource": "pods",
        "sub_resource": "",
        "object": document,
    }
    return AdmissionRequest(**fields | changes)
