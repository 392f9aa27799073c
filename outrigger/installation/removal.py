"""The story of an uninstallation: everything is removed that the installation, or the control plane, created,
in every namespace. The CA's key is kept, unless the user says `--purge`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from outrigger.cluster.objects import Document, ObjectReference, collection, is_ours
from outrigger.errors import CommandError
from outrigger.installation.application import find, remove
from outrigger.installation.readiness import collection_of_pods
from outrigger.installation.release import control_planes, find_release, leftovers

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

_POLL_EVERY_S: Final = 0.2
_ROOTS: Final = "outrigger-ca-root-cert"
_CA_SECRET: Final = "outrigger-ca-secret"
_SIDECAR: Final = "outrigger-sidecar"
_BY_HELM: Final = "there is no record of the installation: if Helm has installed it, use helm uninstall"
_CRDS: Final = collection("apiextensions.k8s.io/v1", "CustomResourceDefinition")
# What Kubernetes itself creates in every namespace.
_OF_KUBERNETES: Final = frozenset({"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"})
_KINDS_OF_USERS: Final = (
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    namespace: str
    revision: str
    purge: bool
    dry_run: bool
    timeout_s: float


async def uninstall(api: ClientApi, wanted: Removal, report: Callable[[str], None]) -> None:
    """Also where only objects without a namespace are left, because somebody deleted the namespace. Raises
    `CommandError` and `KubernetesError`."""
    release = await find_release(api, wanted.namespace, wanted.revision)
    installed = await control_planes(api)
    others = [
        revision if namespace == wanted.namespace else f"{revision} (namespace {namespace})"
        for revision, namespace in sorted(installed.items())
        if (revision, namespace) != (wanted.revision, wanted.namespace)
    ]
    objects = release.objects if release else ()
    if release is None and wanted.revision not in installed:
        objects = await leftovers(api, wanted.revision)
    if release is None and not objects and (installed or not wanted.purge):
        by_helm = installed.get(wanted.revision) == wanted.namespace
        raise CommandError(_BY_HELM if by_helm else _not_installed(wanted, others))
    if others and wanted.purge:
        raise CommandError(
            f"--purge removes what all revisions share: uninstall {', '.join(others)} first, or leave it out"
        )
    async for line in _remove_objects(api, objects, wanted):
        report(line)
    if release is not None and (line := await remove(api, release.reference, dry_run=wanted.dry_run)):
        report(line)
    if not others:
        async for line in _remove_shared(api, wanted):
            report(line)
        async for line in _remove_namespace(api, wanted):
            report(line)
    if count := await _pods_with_sidecar(api):
        report(
            f"{count} pods still have a sidecar, which keeps its last configuration until its certificate "
            "expires: restart their workloads"
        )


def _not_installed(wanted: Removal, others: list[str]) -> str:
    there = f"; installed: {', '.join(others)}" if others else ""
    return f"the revision {wanted.revision} is not installed in the namespace {wanted.namespace}{there}"


async def _remove_objects(
    api: ClientApi, all_objects: Iterable[ObjectReference], wanted: Removal
) -> AsyncIterator[str]:
    """First the webhooks, so that pods can be created again, and last the permissions. A control plane that
    still runs would restore the ConfigMaps of its roots, so its pods must have ended before these go."""
    objects = [each for each in all_objects if each.kind != "Namespace"]
    for each in sorted(objects, key=lambda each: -each.order):
        line = await remove(api, each, dry_run=wanted.dry_run)
        if line:
            yield line
        if each.kind == "Deployment" and not wanted.dry_run:
            await _until_gone(api, each, wanted.timeout_s)


async def _until_gone(api: ClientApi, where: ObjectReference, timeout_s: float) -> None:
    """The deletion of dependents comes first, so its pods have ended, too."""
    try:
        async with asyncio.timeout(timeout_s):
            while await find(api, where) is not None:
                await asyncio.sleep(_POLL_EVERY_S)
    except TimeoutError:
        raise CommandError(
            f"the pods of {where} have not ended within {timeout_s:g} s: run the command again"
        ) from None


async def _remove_shared(api: ClientApi, wanted: Removal) -> AsyncIterator[str]:
    """What the control planes of all revisions have created."""
    named = {"fieldSelector": f"metadata.name={_ROOTS}"}
    found = await api.get(collection("v1", "ConfigMap"), named)
    namespaces = [each["metadata"]["namespace"] for each in found["items"] if is_ours(each)]
    for namespace in namespaces:
        await remove(
            api,
            ObjectReference(api_version="v1", kind="ConfigMap", namespace=namespace, name=_ROOTS),
            dry_run=wanted.dry_run,
        )
    if namespaces:
        done = "would be deleted" if wanted.dry_run else "deleted"
        yield f"ConfigMap {_ROOTS} {done} in {len(namespaces)} namespaces"
    for api_version, kind, name in (
        ("v1", "ConfigMap", "outrigger-last-good"),
        ("coordination.k8s.io/v1", "Lease", "outrigger-status-writer"),
    ):
        where = ObjectReference(api_version=api_version, kind=kind, namespace=wanted.namespace, name=name)
        if line := await remove(api, where, dry_run=wanted.dry_run, any_owner=True):
            yield line
    secret = ObjectReference(api_version="v1", kind="Secret", namespace=wanted.namespace, name=_CA_SECRET)
    if wanted.purge:
        async for line in _purge(api, secret, wanted):
            yield line
    elif await find(api, secret) is not None:
        yield f"{secret} kept: it has the key of the mesh's CA (--purge deletes it)"


async def _purge(api: ClientApi, secret: ObjectReference, wanted: Removal) -> AsyncIterator[str]:
    """The key of the CA, and our CRDs with all resources of their kinds."""
    listing = await api.get(_CRDS)
    crds = [
        ObjectReference(
            api_version="apiextensions.k8s.io/v1",
            kind="CustomResourceDefinition",
            name=each["metadata"]["name"],
        )
        for each in listing["items"]
        if is_ours(each)
    ]
    for where in (secret, *crds):
        if line := await remove(api, where, dry_run=wanted.dry_run):
            yield line


async def _remove_namespace(api: ClientApi, wanted: Removal) -> AsyncIterator[str]:
    """Only if the installation created it, and nothing of anybody is in it."""
    namespace = ObjectReference(api_version="v1", kind="Namespace", name=wanted.namespace)
    found = await find(api, namespace)
    if found is None or not is_ours(found) or wanted.dry_run:
        return
    left = [name async for name in _contents(api, wanted.namespace)]
    if left:
        yield f"{namespace} kept: it contains {', '.join(left[:5])}"
    elif line := await remove(api, namespace):
        await _until_gone(api, namespace, wanted.timeout_s)
        yield line


async def _contents(api: ClientApi, namespace: str) -> AsyncIterator[str]:
    for api_version, kind in _KINDS_OF_USERS:
        listing = await api.get(collection(api_version, kind, namespace))
        for each in listing["items"]:
            name = f"{kind}/{each['metadata']['name']}"
            if name not in _OF_KUBERNETES:
                yield name
    pods = await api.get(collection_of_pods(namespace))
    for each in pods["items"]:
        yield f"Pod/{each['metadata']['name']}"


async def _pods_with_sidecar(api: ClientApi) -> int:
    pods = await api.get(collection_of_pods())
    return sum(_SIDECAR in _container_names(pod) for pod in pods["items"])


def _container_names(pod: Document) -> Iterable[str]:
    spec = pod["spec"]
    return [each["name"] for each in (*(spec.get("initContainers") or ()), *spec["containers"])]
