"""CustomResourceDefinitions, made from the descriptors of kinds.

They have the names of Istio's CRDs, so a cluster can hold one set only. An installation creates the missing
ones, replaces those that are ours (`is_ours`), and leaves all others alone. Istio's own CRDs work as well:
resources are validated when they are read, even if the API server has checked a schema.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from controlplane.resources.kind import ResourceKind
from controlplane.resources.status import Status
from controlplane.resources.structural_schema import Schema, structural_schema

Document = dict[str, Any]

# Not `managed-by`: that is the name of the tool that installs them.
_OURS = ("app.kubernetes.io/part-of", "outrigger")


# In addition to Istio's: whether the resource is in force.
_COLUMNS_OF_STATUS = {
    condition: f'.status.conditions[?(@.type=="{condition}")].status'
    for condition in ("Accepted", "Programmed")
}


def crds(kinds: Iterable[ResourceKind[Any]]) -> list[Document]:
    """One for each kind that Kubernetes does not define itself."""
    return [_crd(kind) for kind in kinds if not kind.is_core]


def is_ours(crd: Document) -> bool:
    """Whether Outrigger installed it, and so may replace or remove it."""
    label, value = _OURS
    labels = (crd.get("metadata") or {}).get("labels") or {}
    return bool(labels.get(label) == value)


def _crd(kind: ResourceKind[Any]) -> Document:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}", "labels": dict([_OURS])},
        "spec": {
            "group": kind.group,
            "names": _names(kind),
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            # The newest version is stored.
            "versions": [
                _version(kind, api_version, stored=api_version == kind.api_versions[0])
                for api_version in kind.api_versions
            ],
        },
    }


def _names(kind: ResourceKind[Any]) -> Document:
    names: Document = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "categories": ["istio-io", kind.group.replace(".", "-")],
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return names


def _version(kind: ResourceKind[Any], api_version: str, *, stored: bool) -> Document:
    """All versions have one schema, so that no version needs conversion."""
    return {
        "name": api_version.rpartition("/")[2],
        "served": True,
        "storage": stored,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(kind),
        "schema": {"openAPIV3Schema": _object_schema(kind)},
    }


def _columns(kind: ResourceKind[Any]) -> list[Document]:
    columns = [
        {"name": name, "type": "string", "jsonPath": path}
        for name, path in {**kind.columns, **_COLUMNS_OF_STATUS}.items()
    ]
    return [*columns, {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]


def _object_schema(kind: ResourceKind[Any]) -> Schema:
    spec = structural_schema(kind.spec)
    schema: Schema = {
        "type": "object",
        "description": spec["description"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural_schema(Status),
        },
    }
    if "required" in spec:
        schema["required"] = ["spec"]
    return schema
