"""All objects of a cluster, to compare before and after."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tests.support.kubernetes_api import KubernetesApi, KubernetesError

# They come and go by themselves, or follow other objects.
_TRANSIENT = frozenset({
    "apiservices", "endpoints", "endpointslices", "events", "ipaddresses", "leases", "nodes", "pods",
    "replicasets",
})  # fmt: skip


async def contents(api: KubernetesApi) -> set[str]:
    """Names such as `configmaps default/kube-root-ca.crt`, without those of transient kinds."""
    found: set[str] = set()
    for version in [group async for group in _groups(api)]:
        for resource in (await api.get(version))["resources"]:
            name = resource["name"]
            if "list" not in resource["verbs"] or "/" in name or name in _TRANSIENT:
                continue
            try:
                items = (await api.get(f"{version}/{name}"))["items"]
            except KubernetesError as error:
                if error.status != 404:  # a CRD that is being deleted
                    raise
                continue
            for item in items:
                metadata = item["metadata"]
                found.add(f"{name} {metadata.get('namespace', '')}/{metadata['name']}")
    return found


async def _groups(api: KubernetesApi) -> AsyncIterator[str]:
    yield "/api/v1"
    for group in (await api.get("/apis"))["groups"]:
        yield f"/apis/{group['preferredVersion']['groupVersion']}"
