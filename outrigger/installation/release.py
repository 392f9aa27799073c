"""The record of an installation: a ConfigMap in the control plane's namespace. It has what the next upgrade
needs: the version, the user's values, and all objects."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import yaml

from outrigger.cluster.objects import Document, ObjectReference, collection
from outrigger.errors import CommandError
from outrigger.installation.values import Values

if TYPE_CHECKING:
    from controlplane.kubernetes.api import KubernetesApi

DEFAULT_REVISION: Final = "default"
CONTROL_PLANE: Final = "outrigger-controlplane"
_NAME: Final = "outrigger-release"
_NOT_FOUND: Final = 404
_IN_NO_NAMESPACE: Final = (
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRecord:
    """``values`` are the user's own, without the defaults of the chart. ``objects`` include those of an
    earlier version while an upgrade is under way."""

    namespace: str
    revision: str
    version: str
    values: Values
    objects: tuple[ObjectReference, ...]

    @property
    def reference(self) -> ObjectReference:
        return _reference(self.namespace, self.revision)

    def document(self) -> Document:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.reference.name,
                "namespace": self.namespace,
                "labels": {"app.kubernetes.io/part-of": "outrigger", "istio.io/rev": self.revision},
            },
            "data": {
                "version": self.version,
                "values": yaml.safe_dump(self.values),
                "objects": json.dumps([asdict(each) for each in self.objects], indent=1),
            },
        }


def suffix(revision: str) -> str:
    """The end of the names of a revision's objects, as in the chart."""
    return "" if revision == DEFAULT_REVISION else f"-{revision}"


async def find_release(api: KubernetesApi, namespace: str, revision: str) -> ReleaseRecord | None:
    """Raises `KubernetesError`, and `CommandError` for a record that was damaged."""
    from controlplane.errors import RefusedError

    found = _reference(namespace, revision)
    try:
        document = await api.get(found.path)
    except RefusedError as error:
        if error.status == _NOT_FOUND:
            return None
        raise
    return _parse(document)


async def control_planes(api: KubernetesApi) -> dict[str, str]:
    """The namespaces of all control planes in the cluster, by revision. Those that Helm has installed are
    among them. Raises `KubernetesError`."""
    selector = {"labelSelector": f"app={CONTROL_PLANE},app.kubernetes.io/part-of=outrigger"}
    listing = await api.get(collection("apps/v1", "Deployment"), selector)
    found = (each["metadata"] for each in listing["items"])
    return {each["labels"].get("istio.io/rev", DEFAULT_REVISION): each["namespace"] for each in found}


async def leftovers(api: KubernetesApi, revision: str) -> tuple[ObjectReference, ...]:
    """The objects of a revision that are in no namespace: they outlive its namespace, and the record in it.
    Raises `KubernetesError`."""
    selector = {"labelSelector": f"app.kubernetes.io/part-of=outrigger,istio.io/rev={revision}"}
    found = []
    for api_version, kind in _IN_NO_NAMESPACE:
        listing = await api.get(collection(api_version, kind), selector)
        names = (each["metadata"]["name"] for each in listing["items"])
        found += [ObjectReference(api_version=api_version, kind=kind, name=name) for name in names]
    return tuple(found)


def _parse(document: Document) -> ReleaseRecord:
    metadata, data = document["metadata"], document.get("data") or {}
    try:
        return ReleaseRecord(
            namespace=metadata["namespace"],
            revision=metadata["labels"]["istio.io/rev"],
            version=data["version"],
            values=yaml.safe_load(data["values"]),
            objects=tuple(ObjectReference(**each) for each in json.loads(data["objects"])),
        )
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        name = f"{metadata['namespace']}/{metadata['name']}"
        raise CommandError(
            f"the ConfigMap {name}, the record of the installation, is damaged: {error!r}"
        ) from error


def _reference(namespace: str, revision: str) -> ObjectReference:
    return ObjectReference(
        api_version="v1", kind="ConfigMap", namespace=namespace, name=f"{_NAME}{suffix(revision)}"
    )
