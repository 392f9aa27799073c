"""Whether the mesh is as its resources describe it: proxies, pods without a sidecar, resources that are not
in force. The control plane's debug API is read through port-forwards to its pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from controlplane.errors import RefusedError
from controlplane.kinds.registry import KINDS
from outrigger.check.control_plane import ready_pods
from outrigger.check.finding import Finding, Findings, ok, or_unchecked, problem, warning
from outrigger.check.prerequisites import served_versions, skew
from outrigger.cluster.objects import Document, collection
from outrigger.cluster.port_forward import Answer, get_json
from outrigger.installation.readiness import collection_of_pods

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

_DEBUG_PORT: Final = 8080
_SIDECAR: Final = "outrigger-sidecar"
_PROGRAM: Final = "outrigger"  # the name of our sidecar in its node, before its version
_CRDS: Final = collection("apiextensions.k8s.io/v1", "CustomResourceDefinition")
_NOT_FOUND: Final = 404
# Kinds that are not supported, and whose status says so: they restrict access.
_RESTRICTING: Final = {
    "authorizationpolicies.security.istio.io": "AuthorizationPolicy",
    "requestauthentications.security.istio.io": "RequestAuthentication",
}


@or_unchecked("proxies")
async def proxies(api: ClientApi, namespace: str, revision: str, version: str) -> Findings:
    """Each proxy follows one replica, so all replicas are asked."""
    streams: list[Document] = []
    replicas = await ready_pods(api, namespace, revision)
    if not replicas:
        yield warning("proxies", "cannot be checked: no pod of the control plane is ready")
        return
    for pod in replicas:
        answer = await get_json(api, namespace, pod, _DEBUG_PORT, "/debug/syncz")
        streams += answer.document
        if finding := skew(answer.date, f"this machine and the pod {pod}"):
            yield finding
    findings = [finding for stream in streams for finding in stream_findings(stream, version)]
    connected = {(each["namespace"], each["workload"]) for each in streams}
    pods = (await api.get(collection_of_pods()))["items"]
    for pod in pods:
        metadata = pod["metadata"]
        if is_meshed(pod, revision) and (metadata["namespace"], metadata["name"]) not in connected:
            where = f"{metadata['namespace']}/{metadata['name']}"
            findings.append(problem("proxies", "its sidecar is not connected to this control plane", where))
    for finding in findings or [ok("proxies", f"{len(connected)} are connected and synchronised")]:
        yield finding


def stream_findings(stream: Document, version: str) -> Iterator[Finding]:
    """What is wrong with one stream of `/debug/syncz`."""
    where = f"{stream['namespace']}/{stream['workload']}"
    for name, state in stream["types"].items():
        if state["rejection"]:
            yield problem("proxies", f"rejects {name}: {state['rejection']:.500}", where)
        elif state["state"] == "STALE":
            yield warning("proxies", f"has not acknowledged {name} yet", where)
    name, _, own = stream["version"].partition(" ")
    if name == _PROGRAM and own != version:
        yield warning("proxies", f"its sidecar is {own}, this command {version}: restart its workload", where)


def is_meshed(pod: Document, revision: str) -> bool:
    """Whether its sidecar runs, and the revision injected it. Without the annotation, it was written by hand,
    and nothing is known about its control plane."""
    if (pod["metadata"].get("annotations") or {}).get("istio.io/rev") != revision:
        return False
    status = pod.get("status") or {}
    containers = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    return any(each["name"] == _SIDECAR and "running" in each.get("state", {}) for each in containers)


@or_unchecked("pods")
async def unmeshed(api: ClientApi, namespace: str, revision: str) -> Findings:
    """Pods without a sidecar whose labels, or those of the namespace, ask for one."""
    answer: Answer | None = None
    for pod in (await ready_pods(api, namespace, revision))[:1]:
        answer = await get_json(api, namespace, pod, _DEBUG_PORT, "/debug/unmeshedz")
    if answer is None:
        yield warning("pods", "cannot be checked: no pod of the control plane is ready")
        return
    for each in answer.document:
        message = f"has no sidecar, although a label asks for one ({each['asked_by']}): restart its workload"
        yield problem("pods", message, f"{each['namespace']}/{each['name']}")
    if not answer.document:
        yield ok("pods", "every pod that a label selects has a sidecar")


@or_unchecked("resources")
async def resources(api: ClientApi) -> Findings:
    """Whose status says that they are not in force."""
    count = 0
    findings: list[Finding] = []
    for crd in (await api.get(_CRDS))["items"]:
        kind = _kinds().get(crd["metadata"]["name"])
        if kind is None:
            continue
        for resource in await _list(api, crd):
            count += 1
            findings += resource_findings(kind, resource)
    for finding in findings:
        yield finding
    if not findings:
        yield ok("resources", f"all {count} are in force")


def _kinds() -> Mapping[str, str]:
    """The kinds with a status, by the names of their CRDs."""
    supported = {f"{kind.plural}.{kind.group}": kind.name for kind in KINDS.values() if not kind.is_core}
    return {**supported, **_RESTRICTING}


async def _list(api: ClientApi, crd: Document) -> Sequence[Document]:
    spec = crd["spec"]
    version = served_versions(crd)[0]
    try:
        items: list[Document] = (await api.get(f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"))[
            "items"
        ]
    except RefusedError as error:
        if error.status == _NOT_FOUND:  # the CRD is not established, or is being deleted
            return ()
        raise
    return items


def resource_findings(kind: str, resource: Document) -> Iterator[Finding]:
    metadata, status = resource["metadata"], resource.get("status") or {}
    where = f"{kind} {metadata['namespace']}/{metadata['name']}"
    if int(status.get("observedGeneration") or 0) < metadata.get("generation", 0):
        yield warning("resources", "the control plane has not read this generation yet", where)
        return
    for condition in status.get("conditions") or ():
        if condition["status"] != "False":
            continue
        state = warning if condition.get("reason") == "Pending" else problem
        yield state("resources", f"{condition.get('reason')}: {condition.get('message', '')}", where)
