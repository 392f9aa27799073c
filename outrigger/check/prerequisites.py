"""Whether the control plane can be installed: `outrigger check --pre`."""

from __future__ import annotations

import asyncio
import json
import re
import time
from email.utils import parsedate_to_datetime
from itertools import product
from typing import TYPE_CHECKING, Final

from controlplane.kinds.registry import KINDS
from outrigger.check.finding import Finding, Findings, ok, or_unchecked, problem, warning
from outrigger.cluster.objects import Document, collection, is_ours, reference
from outrigger.errors import CommandError
from outrigger.installation.chart import Chart, Release
from outrigger.installation.conflicts import other_injectors, refuse_other_owners

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

# Native sidecars, and the hook `sleep` of the control plane.
_OLDEST: Final = (1, 30)
_CRDS: Final = collection("apiextensions.k8s.io/v1", "CustomResourceDefinition")
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_VERBS: Final = ("get", "create", "patch", "delete")
_WARN_SKEW_S: Final = 5.0
_LARGEST_SKEW_S: Final = 60.0


async def prerequisites(api: ClientApi, namespace: str, revision: str) -> Findings:
    async for finding in api_server(api):
        yield finding
    async for finding in crds(api):
        yield finding
    async for finding in _owners(api, namespace, revision):
        yield finding
    async for finding in _permissions(api, namespace, revision):
        yield finding


async def api_server(api: ClientApi) -> Findings:
    """Its version, and the clock of this machine. Raises `KubernetesError`: without it nothing can be
    checked."""
    answer = await api.fetch("/version")
    version = str(json.loads(answer.data)["gitVersion"])
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        yield problem("api-server", f"{version} is older than {oldest}, the oldest supported release")
    else:
        yield ok("api-server", version)
    if finding := skew(answer.date, "this machine and the API server"):
        yield finding


def skew(date: str, between: str) -> Finding | None:
    """A finding if the date of a response differs from our clock: tokens and certificates have a time."""
    try:
        skew_s = abs(time.time() - parsedate_to_datetime(date).timestamp())
    except ValueError:
        return None
    if skew_s <= _WARN_SKEW_S:
        return None
    message = f"the clocks of {between} differ by {skew_s:.0f} s: tokens and certificates may be refused"
    return problem("clock", message) if skew_s > _LARGEST_SKEW_S else warning("clock", message)


@or_unchecked("crds")
async def crds(api: ClientApi) -> Findings:
    """Whose they are, and whether they serve a version that is read."""
    found = {each["metadata"]["name"]: each for each in (await api.get(_CRDS))["items"]}
    for kind in KINDS.values():
        name = f"{kind.plural}.{kind.group}"
        if kind.is_core:
            continue
        if name not in found:
            yield warning("crds", "missing: outrigger crds --install", name)
            continue
        served = served_versions(found[name])
        readable = [each.rpartition("/")[2] for each in kind.api_versions]
        owner = "Outrigger" if is_ours(found[name]) else "another product"
        if not set(served) & set(readable):
            text = f"serves {', '.join(served)}, and only {', '.join(readable)} can be read"
            yield problem("crds", f"{text}; installed by {owner}", name)
        else:
            yield ok("crds", f"installed by {owner}, serves {', '.join(served)}", name)


def served_versions(crd: Document) -> list[str]:
    return [each["name"] for each in crd["spec"]["versions"] if each.get("served")]


@or_unchecked("conflicts")
async def _owners(api: ClientApi, namespace: str, revision: str) -> Findings:
    try:
        await refuse_other_owners(api, namespace, revision)
    except CommandError as error:
        yield problem("conflicts", str(error))
    warnings = await other_injectors(api, _documents(namespace, revision), revision)
    for text in warnings:
        yield warning("conflicts", text)
    if not warnings:
        yield ok("conflicts", "no other product injects the same pods")


@or_unchecked("permissions")
async def _permissions(api: ClientApi, namespace: str, revision: str) -> Findings:
    """Those that an installation needs."""
    paths = {
        collection(each["apiVersion"], each["kind"], reference(each).namespace): each["apiVersion"]
        for each in _documents(namespace, revision)
    }
    paths[_CRDS] = "apiextensions.k8s.io/v1"
    asked = list(product(_VERBS, paths.items()))
    allowed = await asyncio.gather(*(_may(api, verb, *path) for verb, path in asked))
    missing: dict[str, list[str]] = {}
    for (verb, (path, _)), is_allowed in zip(asked, allowed, strict=True):
        if not is_allowed:
            missing.setdefault(path, []).append(verb)
    for path, verbs in missing.items():
        yield problem("permissions", f"you may not {', '.join(verbs)}", _described(path))
    if not missing:
        yield ok("permissions", "you may create, change and delete all objects of an installation")


async def _may(api: ClientApi, verb: str, path: str, api_version: str) -> bool:
    attributes = {
        "verb": verb,
        "group": api_version.rpartition("/")[0],
        "resource": path.rpartition("/")[2],
        "namespace": path.partition("/namespaces/")[2].partition("/")[0],
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool((await api.create(_REVIEWS, review))["status"]["allowed"])


def _described(path: str) -> str:
    """`deployments in outrigger-system`."""
    namespace = path.partition("/namespaces/")[2].partition("/")[0]
    resource = path.rpartition("/")[2]
    return f"{resource} in {namespace}" if namespace and resource != namespace else resource


def _documents(namespace: str, revision: str) -> list[Document]:
    release = Release(name="outrigger", namespace=namespace, service="outrigger")
    return Chart().render(release, {"namespace": {"create": True}, "revision": revision})
