"""The webhooks of control planes that run in the test's process, registered in a real cluster."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy

from tests.support.cluster_control_plane import ClusterControlPlane
from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.manifests import DEPLOY, apply, manifests, path_of

KINDS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def configurations(address: str, **labels: str) -> list[Resource]:
    """Those of the manifests, with the webhooks at HOST:PORT instead of behind a Service."""
    found = [deepcopy(each) for each in manifests(DEPLOY / "outrigger.yaml") if each["kind"] in KINDS]
    for configuration in found:
        configuration["metadata"]["labels"] |= labels
        for webhook in configuration["webhooks"]:
            path = webhook["clientConfig"].pop("service")["path"]
            webhook["clientConfig"]["url"] = f"https://{address}{path}"
    return found


@asynccontextmanager
async def registered(api: KubernetesApi, plane: ClusterControlPlane) -> AsyncIterator[None]:
    """The API server calls the webhooks of the control plane until the block ends; it does so already, with
    the control plane's roots, when the block begins."""
    wanted = configurations(plane.webhooks)
    await apply(api, wanted)
    try:
        await all_have(api, plane.roots.read_text())
        yield
    finally:
        await unregister(api, wanted)


async def unregister(api: KubernetesApi, wanted: list[Resource]) -> None:
    for each in wanted:
        await api.delete(await path_of(api, each))


async def all_have(api: KubernetesApi, roots: str) -> None:
    """Waits until every webhook has this trust bundle."""

    async def look() -> bool:
        return all(each == roots for each in await bundles(api))

    await eventually(look, "every caBundle has the roots")


async def bundles(api: KubernetesApi) -> list[str]:
    """The caBundle of each webhook."""
    found = [await api.get(await path_of(api, each)) for each in configurations("unused")]
    return [
        base64.b64decode(webhook["clientConfig"].get("caBundle", "")).decode()
        for configuration in found
        for webhook in configuration["webhooks"]
    ]


def metric(page: str, name: str) -> float:
    """The sum of a metric's samples."""
    lines = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
    return sum(float(value) for series, _, value in lines if series.partition("{")[0] == name)
