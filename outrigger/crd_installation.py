"""Installs the CustomResourceDefinitions in a cluster. Creates and updates Outrigger's own; does not change
those that another product installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from controlplane.kinds.registry import KINDS
from controlplane.resources.crds import crds
from outrigger.cluster.objects import is_ours, reference
from outrigger.installation.application import apply, find

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi


async def install(api: ClientApi, *, dry_run: bool = False) -> AsyncIterator[str]:
    """Installs each CRD and yields a line that describes the result. Raises `KubernetesError`."""
    for crd in crds(KINDS.values()):
        where = reference(crd)
        found = await find(api, where)
        if found is None or is_ours(found):
            yield await apply(api, crd, dry_run=dry_run)
        else:
            yield f"{where} unchanged: another product installed it, and it can be used"
