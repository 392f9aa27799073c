"""Whether an installed control plane works: its pods, its webhooks, its CA."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from controlplane.errors import RefusedError
from outrigger.check.finding import Finding, Findings, ok, or_unchecked, problem, warning
from outrigger.cluster.objects import Document, ObjectReference
from outrigger.installation.application import find
from outrigger.installation.readiness import collection_of_pods, pod_problems
from outrigger.installation.release import suffix

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

_EXPIRES_SOON: Final = timedelta(days=30)
_DRY_RUN: Final = {"dryRun": "All"}
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_VIRTUAL_SERVICES: Final = "/apis/networking.istio.io/v1/namespaces/{}/virtualservices"
_SIDECAR: Final = "outrigger-sidecar"


async def ready_pods(api: ClientApi, namespace: str, revision: str) -> list[str]:
    """The names of the control plane's pods that are ready. Raises `KubernetesError`."""
    return [each["metadata"]["name"] for each in await _pods(api, namespace, revision) if _is_ready(each)]


@or_unchecked("control-plane")
async def deployment(api: ClientApi, namespace: str, revision: str) -> Findings:
    name = f"{namespace}/outrigger-controlplane{suffix(revision)}"
    pods = await _pods(api, namespace, revision)
    ready = [each for each in pods if _is_ready(each)]
    if ready:
        yield ok("control-plane", f"{len(ready)} of {len(pods)} pods are ready", name)
    else:
        yield problem("control-plane", f"none of {len(pods)} pods is ready: is it installed?", name)
    for pod in pods:
        for reason in () if pod in ready else pod_problems(pod):
            yield problem("control-plane", reason, f"{namespace}/{pod['metadata']['name']}")


async def _pods(api: ClientApi, namespace: str, revision: str) -> list[Document]:
    labels = {"labelSelector": f"app=outrigger-controlplane,istio.io/rev={revision}"}
    pods: list[Document] = (await api.get(collection_of_pods(namespace), labels))["items"]
    return pods


def _is_ready(pod: Document) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@or_unchecked("ca")
async def authority(api: ClientApi, namespace: str) -> Findings:
    """The roots that pods trust, and the certificate that signs."""
    roots = await _published_roots(api, namespace)
    if not roots:
        yield problem("ca", f"the ConfigMap {namespace}/outrigger-ca-root-cert has no root")
    for root in roots:
        yield _expiry(root, "the root")
    for name in ("cacerts", "outrigger-ca-secret"):
        where = ObjectReference(api_version="v1", kind="Secret", namespace=namespace, name=name)
        secret = await find(api, where)
        data = (secret or {}).get("data") or {}
        for signer in certificates(data.get("ca-cert.pem") or data.get("tls.crt"))[:1]:
            yield _expiry(signer, f"the signing certificate in {where}")
        if secret is not None:
            return


async def _published_roots(api: ClientApi, namespace: str) -> list[x509.Certificate]:
    where = ObjectReference(
        api_version="v1", kind="ConfigMap", namespace=namespace, name="outrigger-ca-root-cert"
    )
    published = ((await find(api, where)) or {}).get("data") or {}
    encoded = base64.b64encode(published.get("root-cert.pem", "").encode())
    return certificates(encoded)


def certificates(encoded: str | bytes | None) -> list[x509.Certificate]:
    """Of base64 of PEM; none if it is missing or invalid."""
    try:
        return x509.load_pem_x509_certificates(base64.b64decode(encoded or b"", validate=True))
    except (ValueError, TypeError):
        return []


def _expiry(certificate: x509.Certificate, name: str) -> Finding:
    expires, now = certificate.not_valid_after_utc, datetime.now(UTC)
    when = f"{name} ({certificate.subject.rfc4514_string()}) expires at {expires:%Y-%m-%d %H:%M} UTC"
    if expires <= now:
        return problem("ca", when.replace("expires", "expired"))
    return warning("ca", f"{when}: replace it") if expires - now < _EXPIRES_SOON else ok("ca", when)


@or_unchecked("webhooks")
async def webhooks(api: ClientApi, namespace: str, revision: str) -> Findings:
    """Whether the API server can call them, and verifies the roots that are in use."""
    roots = await _published_roots(api, namespace)
    for kind, name in (
        ("MutatingWebhookConfiguration", "outrigger-sidecar-injector"),
        ("ValidatingWebhookConfiguration", "outrigger-validator"),
    ):
        where = ObjectReference(
            api_version="admissionregistration.k8s.io/v1", kind=kind, name=name + suffix(revision)
        )
        found = await find(api, where)
        if found is None:
            yield warning("webhooks", "does not exist: it is switched off, or was deleted", str(where))
            continue
        unverifiable = list(_unverifiable(found, roots))
        for text in unverifiable:
            yield problem("webhooks", text, str(where))
        if not unverifiable:
            yield await _call(api, kind, namespace, revision, str(where))


def _unverifiable(configuration: Document, roots: Sequence[x509.Certificate]) -> Iterator[str]:
    for webhook in configuration.get("webhooks") or ():
        bundle = certificates(webhook["clientConfig"].get("caBundle"))
        if not bundle:
            yield f"{webhook['name']} has no caBundle: the control plane has not written it"
        elif any(root not in bundle for root in roots):
            yield f"the caBundle of {webhook['name']} lacks a root of the mesh"


async def _call(api: ClientApi, kind: str, namespace: str, revision: str, subject: str) -> Finding:
    """Has the API server call it, by the dry run of a creation."""
    injects = kind == "MutatingWebhookConfiguration"
    path = "/api/v1/namespaces/default/pods" if injects else _VIRTUAL_SERVICES.format(namespace)
    probe = _pod(revision) if injects else _virtual_service(revision)
    try:
        answer = await api.create(path, probe, _DRY_RUN)
    except RefusedError as error:
        # Not by a webhook, but because the user may not, or the CRD does not serve this version.
        unrelated = error.status in (_FORBIDDEN, _NOT_FOUND) and "webhook" not in str(error)
        state = warning if unrelated else problem
        return state("webhooks", f"a dry run is refused: {error}", subject)
    if injects and _SIDECAR not in _names(answer):
        return warning("webhooks", "a pod of a dry run in the namespace default got no sidecar", subject)
    done = "calls it, and it injects a sidecar" if injects else "calls it"
    return ok("webhooks", f"the API server {done}", subject)


def _pod(revision: str) -> Document:
    labels = {"sidecar.istio.io/inject": "true", "istio.io/rev": revision}
    metadata = {"generateName": "outrigger-check-", "labels": labels}
    spec = {"containers": [{"name": "check", "image": "outrigger.invalid/check"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _virtual_service(revision: str) -> Document:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"generateName": "outrigger-check-", "labels": {"istio.io/rev": revision}},
        "spec": {"hosts": ["outrigger-check.invalid"], "http": [{"directResponse": {"status": 200}}]},
    }


def _names(pod: Document) -> list[Any]:
    spec = pod["spec"]
    return [each["name"] for each in (*(spec.get("initContainers") or ()), *spec["containers"])]
