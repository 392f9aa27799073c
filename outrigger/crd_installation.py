"""Installs the CustomResourceDefinitions in a cluster. Creates and updates Outrigger's own; does not change
those that another product installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controlplane.errors import RefusedError
from controlplane.kinds.registry import KINDS
from controlplane.resources.crds import Document, crds, is_ours

if TYPE_CHECKING:
    from controlplane.kubernetes.api import KubernetesApi

_COLLECTION: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_CONFLICT: Final = 409


async def install(kubeconfig: Path) -> AsyncIterator[str]:
    """Installs each CRD and yields a line that describes the result. Raises `SettingsError` and
    `KubernetesError`."""
    from controlplane.kubernetes.api import ClientApi

    api = await ClientApi.connect(kubeconfig)
    try:
        for crd in crds(KINDS.values()):
            yield f"{crd['metadata']['name']} {await _install(api, crd)}"
    finally:
        await api.close()


async def _install(api: KubernetesApi, crd: Document) -> str:
    path = f"{_COLLECTION}/{crd['metadata']['name']}"
    try:
        await api.create(_COLLECTION, crd)
    except RefusedError as error:
        if error.status != _CONFLICT:
            raise
    else:
        return "created"
    found = await api.get(path)
    if not is_ours(found):
        return "unchanged: another product installed it, and it can be used"
    labels = {**found["metadata"]["labels"], **crd["metadata"]["labels"]}
    renewed = await api.replace(path, {**crd, "metadata": {**found["metadata"], "labels": labels}})
    changed = renewed["metadata"]["generation"] != found["metadata"]["generation"]
    return "updated" if changed else "unchanged"
