"""Our kinds in a real cluster."""

from __future__ import annotations

import pytest

from controlplane.resources.crds import crds, is_ours
from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource, eventually

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def install_crds(api: KubernetesApi) -> list[Resource]:
    """Installs those that are missing and renews ours; they serve when this returns. Skips the test where
    the cluster has Istio's."""
    for crd in crds():
        path = f"{CRDS}/{crd['metadata']['name']}"
        try:
            await api.create(CRDS, crd)
        except KubernetesError as error:
            if error.status != 409:
                raise
            if not is_ours(await api.get(path)):
                pytest.skip(f"the cluster has another's {crd['metadata']['name']}")
            await api.patch(path, crd)
    return [await _established(api, f"{CRDS}/{crd['metadata']['name']}") for crd in crds()]


def condition(crd: Resource, name: str) -> str | None:
    """`True`, `False` or `Unknown`; None where the API server does not say."""
    conditions = crd.get("status", {}).get("conditions", ())
    return next((each["status"] for each in conditions if each["type"] == name), None)


async def _established(api: KubernetesApi, path: str) -> Resource:
    async def look() -> Resource | None:
        crd = await api.get(path)
        return crd if condition(crd, "Established") == "True" else None

    return await eventually(look, f"{path} is established")
