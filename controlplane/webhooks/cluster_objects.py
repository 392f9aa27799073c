"""The facts of a cluster's Namespaces, Nodes and Pods that the webhooks need."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controlplane.injection import names
from controlplane.injection.selection import INJECT
from controlplane.kubernetes.api import Document
from controlplane.kubernetes.list_watch import Changes, ObjectName, name_of

# Kubernetes 1.33: native sidecars are stable, and Istio uses them by default.
_OLDEST_NATIVE_KUBELET: Final = (1, 33)
_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)")
_ENDED: Final = ("Succeeded", "Failed")
# The annotations that decide whether a pod gets a sidecar.
_DECISIVE_ANNOTATIONS: Final = (INJECT,)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceMarks:
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


class ClusterObjects:
    """Updated by the source's watches. ``pods_without_sidecar`` are running or starting pods, reduced to the
    fields that decide whether a pod gets a sidecar."""

    def __init__(self) -> None:
        self.namespaces: Final[dict[str, NamespaceMarks]] = {}
        self.pods_without_sidecar: Final[dict[ObjectName, Document]] = {}
        self._native_nodes: Final[dict[str, bool]] = {}

    @property
    def native_sidecars(self) -> bool:
        """Whether every node's kubelet supports native sidecars. False if no node is known."""
        return bool(self._native_nodes) and all(self._native_nodes.values())

    def take_namespaces(self, changes: Changes) -> None:
        for _, name in changes.gone:
            self.namespaces.pop(name, None)
        for document in changes.present:
            self.namespaces[document["metadata"]["name"]] = read_namespace(document)

    def take_nodes(self, changes: Changes) -> None:
        for _, name in changes.gone:
            self._native_nodes.pop(name, None)
        for document in changes.present:
            self._native_nodes[document["metadata"]["name"]] = _supports_native_sidecars(document)

    def take_pods(self, changes: Changes) -> None:
        for name in changes.gone:
            self.pods_without_sidecar.pop(name, None)
        for document in changes.present:
            self.pods_without_sidecar.pop(name_of(document), None)
            reduced = _reduced(document)
            if reduced is not None:
                self.pods_without_sidecar[name_of(document)] = reduced


def read_namespace(document: Document) -> NamespaceMarks:
    metadata = document["metadata"]
    return NamespaceMarks(labels=metadata.get("labels") or {}, annotations=metadata.get("annotations") or {})


def _supports_native_sidecars(node: Document) -> bool:
    version = ((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion") or ""
    found = _VERSION.match(version)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST_NATIVE_KUBELET


def _reduced(pod: Document) -> Document | None:
    """Returns None for a pod that has a sidecar, has ended or is being deleted."""
    metadata, spec = pod["metadata"], pod["spec"]
    containers = _names(spec.get("containers"))
    init_containers = _names(spec.get("initContainers"))
    ended = (pod.get("status") or {}).get("phase") in _ENDED or "deletionTimestamp" in metadata
    if ended or {"name": names.PROXY} in (*containers, *init_containers):
        return None
    annotations = metadata.get("annotations") or {}
    return {
        "metadata": {
            "name": metadata["name"],
            "labels": metadata.get("labels") or {},
            "annotations": {key: annotations[key] for key in _DECISIVE_ANNOTATIONS if key in annotations},
        },
        "spec": {
            "hostNetwork": spec.get("hostNetwork", False),
            "containers": containers,
            "initContainers": init_containers,
        },
    }


def _names(containers: Any) -> list[Document]:
    return [{"name": each["name"]} for each in containers or ()]
