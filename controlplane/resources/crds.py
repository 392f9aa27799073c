"""The CustomResourceDefinitions of the kinds that users write, made from their models.

They have the names of Istio's, so a cluster can hold one set only. Whoever installs ours looks first at what
is there: it creates what is missing, replaces what `is_ours`, and leaves everything else alone. Istio's own
CRDs do as well: resources are checked when they are read, whatever schema let them in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.resources.registry import KINDS, Kind
from controlplane.resources.status import Status
from controlplane.resources.structural_schema import Schema, structural_schema

Document = dict[str, Any]

# Not `managed-by`: that is the name of the tool that installs them.
_OURS = ("app.kubernetes.io/part-of", "outrigger")


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """What kubectl calls a kind, and the columns that it prints: title to JSON path."""

    plural: str
    short_names: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)


# As Istio names them, and with Istio's columns.
PRESENTATIONS: Mapping[str, Presentation] = {
    "VirtualService": Presentation(
        plural="virtualservices",
        short_names=("vs",),
        columns={"Gateways": ".spec.gateways", "Hosts": ".spec.hosts"},
    ),
    "DestinationRule": Presentation(
        plural="destinationrules", short_names=("dr",), columns={"Host": ".spec.host"}
    ),
    "ServiceEntry": Presentation(
        plural="serviceentries",
        short_names=("se",),
        columns={"Hosts": ".spec.hosts", "Location": ".spec.location", "Resolution": ".spec.resolution"},
    ),
    "WorkloadEntry": Presentation(
        plural="workloadentries", short_names=("we",), columns={"Address": ".spec.address"}
    ),
    "Sidecar": Presentation(plural="sidecars"),
    "PeerAuthentication": Presentation(
        plural="peerauthentications", short_names=("pa",), columns={"Mode": ".spec.mtls.mode"}
    ),
}
# Ours to add: whether the resource is in force is the first thing to know of it.
_COLUMNS_OF_STATUS = {
    condition: f'.status.conditions[?(@.type=="{condition}")].status'
    for condition in ("Accepted", "Programmed")
}


def crds() -> list[Document]:
    """A CustomResourceDefinition for each kind that is not Kubernetes' own."""
    return [_crd(name, KINDS[name], presentation) for name, presentation in PRESENTATIONS.items()]


def is_ours(crd: Document) -> bool:
    """Whether Outrigger installed it, and so may replace or remove it."""
    label, value = _OURS
    labels = (crd.get("metadata") or {}).get("labels") or {}
    return bool(labels.get(label) == value)


def _crd(name: str, kind: Kind, presentation: Presentation) -> Document:
    group, versions = _group_and_versions(kind)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{presentation.plural}.{group}", "labels": dict([_OURS])},
        "spec": {
            "group": group,
            "names": _names(name, group, presentation),
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [
                _version(version, kind, presentation, stored=version == "v1") for version in versions
            ],
        },
    }


def _group_and_versions(kind: Kind) -> tuple[str, list[str]]:
    group = kind.api_versions[0].partition("/")[0]
    return group, [api_version.removeprefix(f"{group}/") for api_version in kind.api_versions]


def _names(name: str, group: str, presentation: Presentation) -> Document:
    names: Document = {
        "kind": name,
        "listKind": f"{name}List",
        "plural": presentation.plural,
        "singular": name.lower(),
        "categories": ["istio-io", group.replace(".", "-")],
    }
    if presentation.short_names:
        names["shortNames"] = list(presentation.short_names)
    return names


def _version(version: str, kind: Kind, presentation: Presentation, *, stored: bool) -> Document:
    """All versions have one schema, so that none needs conversion."""
    return {
        "name": version,
        "served": True,
        "storage": stored,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(presentation),
        "schema": {"openAPIV3Schema": _object_schema(kind)},
    }


def _columns(presentation: Presentation) -> list[Document]:
    columns = [
        {"name": name, "type": "string", "jsonPath": path}
        for name, path in {**presentation.columns, **_COLUMNS_OF_STATUS}.items()
    ]
    return [*columns, {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]


def _object_schema(kind: Kind) -> Schema:
    spec = structural_schema(kind.model)
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
