"""What another mesh, or another installation, has in the cluster that an installation must respect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from outrigger.cluster.objects import Document, ObjectReference, collection
from outrigger.cluster.selectors import selects
from outrigger.errors import CommandError
from outrigger.installation.application import find
from outrigger.installation.release import control_planes, suffix

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

_ADMISSION: Final = "admissionregistration.k8s.io/v1"
_HELM_RELEASE: Final = "meta.helm.sh/release-name"
Labels = Mapping[str, str]


async def refuse_other_owners(api: ClientApi, namespace: str, revision: str) -> None:
    """Raises `CommandError` if the revision is installed by Helm, or any revision in another namespace: the
    revisions of a mesh share its CA, which is in their namespace. Raises `KubernetesError`."""
    for other, elsewhere in (await control_planes(api)).items():
        if elsewhere != namespace:
            raise CommandError(
                f"the revision {other} is installed in the namespace {elsewhere}, which has the CA of the "
                f"mesh: use --namespace {elsewhere}"
            )
    name = f"outrigger-controlplane{suffix(revision)}"
    binding = await find(
        api,
        ObjectReference(api_version="rbac.authorization.k8s.io/v1", kind="ClusterRoleBinding", name=name),
    )
    if binding is None:
        return
    release = (binding["metadata"].get("annotations") or {}).get(_HELM_RELEASE)
    if release:
        raise CommandError(f"Helm has installed the revision {revision}: use helm upgrade {release}")
    other = (binding.get("subjects") or [{}])[0].get("namespace", namespace)
    if other != namespace:
        raise CommandError(
            f"the revision {revision} is installed in the namespace {other}: use --namespace {other}, or "
            "install another --revision"
        )


async def other_injectors(api: ClientApi, documents: Iterable[Document], revision: str) -> list[str]:
    """A warning for each webhook configuration that would inject the same pods as ours. Raises
    `KubernetesError`."""
    kind = "MutatingWebhookConfiguration"
    ours = [each for each in documents if each["kind"] == kind]
    listing = await api.get(collection(_ADMISSION, kind))
    own = {each["metadata"]["name"] for each in ours}
    others = [each for each in listing["items"] if each["metadata"]["name"] not in own]
    return list(_conflicts(ours, others, revision))


def _conflicts(ours: list[Document], others: list[Document], revision: str) -> Iterator[str]:
    pods: tuple[Labels, ...] = ({}, {"sidecar.istio.io/inject": "true"}, {"istio.io/rev": revision})
    namespaces: tuple[Labels, ...] = ({"istio-injection": "enabled"}, {"istio.io/rev": revision}, {})
    for other in others:
        both = next(
            (
                (namespace, pod)
                for namespace in namespaces
                for pod in pods
                if _injects(other, namespace, pod) and any(_injects(each, namespace, pod) for each in ours)
            ),
            None,
        )
        if both is not None:
            yield (
                f"MutatingWebhookConfiguration {other['metadata']['name']} also injects pods "
                f"{_described(*both)}: use another revision (--revision NAME), and label the namespaces of "
                "this mesh with istio.io/rev=NAME"
            )


def _injects(configuration: Document, namespace: Labels, pod: Labels) -> bool:
    """Only injectors of sidecars: other products change pods, too."""
    return any(
        "sidecar-injector" in webhook["name"]
        and selects(webhook.get("namespaceSelector"), namespace)
        and selects(webhook.get("objectSelector"), pod)
        for webhook in configuration.get("webhooks") or ()
    )


def _described(namespace: Labels, pod: Labels) -> str:
    if namespace:
        return f"in namespaces with {_text(namespace)}"
    return f"with {_text(pod)}" if pod else "in namespaces without a label"


def _text(labels: Labels) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())
