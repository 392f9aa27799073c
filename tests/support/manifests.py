"""Manifests applied to a cluster, as `kubectl apply --server-side` does it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from tests.support.kubernetes_api import KubernetesApi, Resource

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def manifests(path: Path) -> list[Resource]:
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


async def apply(api: KubernetesApi, documents: Iterable[Resource]) -> None:
    """In their order."""
    for document in documents:
        await api.apply(await path_of(api, document), document)


async def path_of(api: KubernetesApi, document: Resource) -> str:
    """Where the API server has it: it says itself what a kind's plural is, and whether it is namespaced."""
    version, kind, metadata = document["apiVersion"], document["kind"], document["metadata"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    known = (await api.get(group))["resources"]
    resource = next(each for each in known if each["kind"] == kind and "/" not in each["name"])
    namespace = f"/namespaces/{metadata['namespace']}" if resource["namespaced"] else ""
    return f"{group}{namespace}/{resource['name']}/{metadata['name']}"
