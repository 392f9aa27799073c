"""Waits until a control plane is ready: its replicas run, and the API server can verify its webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from outrigger.cluster.objects import Document, reference
from outrigger.errors import CommandError
from outrigger.installation.application import find

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

_POLL_EVERY_S: Final = 0.5
_WEBHOOK_KINDS: Final = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


async def wait_until_ready(
    api: ClientApi, documents: Iterable[Document], timeout_s: float, report: Callable[[str], None]
) -> None:
    """Reports each change of what is missing. Raises `CommandError` with the reasons when the time is over,
    and `KubernetesError`."""
    waited_for = [each for each in documents if each["kind"] in ("Deployment", *_WEBHOOK_KINDS)]
    missing = ""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                found = await _first_missing(api, waited_for)
                if found and found != missing:
                    report(found)
                missing = found
                if not missing:
                    return
                await asyncio.sleep(_POLL_EVERY_S)
    except TimeoutError:
        reasons = [reason for each in waited_for for reason in await _reasons(api, each)]
        details = f": {'; '.join(reasons)}" if reasons else ""
        raise CommandError(f"not ready within {timeout_s:g} s: {missing}{details}") from None


async def _first_missing(api: ClientApi, documents: Iterable[Document]) -> str:
    for document in documents:
        where = reference(document)
        found = await find(api, where)
        if found is None:
            return f"{where} does not exist"
        missing = _not_rolled_out(found) if found["kind"] == "Deployment" else _unverifiable(found)
        if missing:
            return f"{where}: {missing}"
    return ""


def _not_rolled_out(deployment: Document) -> str:
    """As `kubectl rollout status` decides it."""
    status, wanted = deployment.get("status") or {}, deployment["spec"]["replicas"]
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return "the change is not seen yet"
    if status.get("updatedReplicas", 0) < wanted or status.get("replicas", 0) > wanted:
        return f"{status.get('updatedReplicas', 0)} of {wanted} replicas are updated"
    available = status.get("availableReplicas", 0)
    return "" if available >= wanted else f"{available} of {wanted} replicas are ready"


def _unverifiable(configuration: Document) -> str:
    if all(each["clientConfig"].get("caBundle") for each in configuration.get("webhooks") or ()):
        return ""
    return "the control plane has not written its caBundle yet"


async def _reasons(api: ClientApi, document: Document) -> list[str]:
    """Why the pods of a Deployment do not run."""
    if document["kind"] != "Deployment":
        return []
    where = reference(document)
    deployment = await find(api, where) or {}
    conditions = (deployment.get("status") or {}).get("conditions") or ()
    reasons = [each["message"] for each in conditions if each["type"] == "ReplicaFailure"]
    labels = ",".join(f"{key}={value}" for key, value in document["spec"]["selector"]["matchLabels"].items())
    pods = await api.get(collection_of_pods(where.namespace), {"labelSelector": labels})
    for pod in pods["items"]:
        reasons += (f"pod {pod['metadata']['name']}: {problem}" for problem in pod_problems(pod))
    return reasons


def collection_of_pods(namespace: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"


def pod_problems(pod: Document) -> Iterator[str]:
    """Why a pod is not ready, in the words of the scheduler and of the kubelet."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{condition.get('reason', '')}: {condition.get('message', '')}"
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = container.get("state", {}).get("waiting")
        ended = container.get("lastState", {}).get("terminated") or container["state"].get("terminated")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            yield f"{waiting.get('reason', '')}: {waiting.get('message', '')}"
        if ended:
            yield f"container {container['name']} ended with exit code {ended.get('exitCode')}"
