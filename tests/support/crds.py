"""Our kinds in a real cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.resources.crds import crds, is_ours
from tests.support.cluster_objects import crd
from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource, eventually

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def install_crds(api: KubernetesApi) -> list[Resource]:
    """Installs those that are missing and renews ours; they serve when this returns. Skips the test where
    the cluster has Istio's."""
    for each in crds(KINDS.values()):
        path = f"{CRDS}/{each['metadata']['name']}"
        try:
            await api.create(CRDS, each)
        except KubernetesError as error:
            if error.status != 409:
                raise
            if not is_ours(await api.get(path)):
                pytest.skip(f"the cluster has another's {each['metadata']['name']}")
            await api.patch(path, each)
    return [await _established(api, f"{CRDS}/{each['metadata']['name']}") for each in crds(KINDS.values())]


# Istio's kinds that are not supported, by group and plural.
FOREIGN = {
    ("networking.istio.io", "envoyfilters"): "EnvoyFilter",
    ("networking.istio.io", "gateways"): "Gateway",
    ("networking.istio.io", "proxyconfigs"): "ProxyConfig",
    ("networking.istio.io", "workloadgroups"): "WorkloadGroup",
    ("security.istio.io", "authorizationpolicies"): "AuthorizationPolicy",
    ("security.istio.io", "requestauthentications"): "RequestAuthentication",
    ("telemetry.istio.io", "telemetries"): "Telemetry",
    ("extensions.istio.io", "wasmplugins"): "WasmPlugin",
}


@asynccontextmanager
async def foreign_crds(api: KubernetesApi, *kinds: str) -> AsyncIterator[None]:
    """Meanwhile the cluster has these kinds of Istio's, as they are served, and their resources; at the end
    neither."""
    wanted = [(group, plural, kind) for (group, plural), kind in FOREIGN.items() if kind in kinds]
    for group, plural, kind in wanted:
        await api.create(CRDS, crd(group, plural, kind, with_status=True))
    try:
        for group, plural, kind in wanted:
            await eventually(partial(_is_listed, api, f"/apis/{group}/v1", plural), f"{kind} is served")
        yield
    finally:
        for group, plural, _ in wanted:
            await api.delete(f"{CRDS}/{plural}.{group}")
            await eventually(
                partial(_is_gone, api, f"{CRDS}/{plural}.{group}"), f"the CRD of {plural} is gone"
            )


async def _is_listed(api: KubernetesApi, group: str, plural: str) -> bool:
    try:
        known = (await api.get(group))["resources"]
        await api.get(f"{group}/{plural}")
    except KubernetesError as error:
        if error.status != 404:
            raise
        return False
    return plural in {each["name"] for each in known}


async def _is_gone(api: KubernetesApi, path: str) -> bool:
    try:
        await api.get(path)
    except KubernetesError as error:
        if error.status != 404:
            raise
        return True
    return False


def condition(definition: Resource, name: str) -> str | None:
    """`True`, `False` or `Unknown`; None where the API server does not say."""
    conditions = definition.get("status", {}).get("conditions", ())
    return next((each["status"] for each in conditions if each["type"] == name), None)


async def _established(api: KubernetesApi, path: str) -> Resource:
    async def look() -> Resource | None:
        definition = await api.get(path)
        return definition if condition(definition, "Established") == "True" else None

    return await eventually(look, f"{path} is established")
