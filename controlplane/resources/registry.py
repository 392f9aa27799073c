"""Which kinds there are, and how a document becomes a resource, or words that say why it cannot.

A document is what YAML or JSON decoded to. Nothing but `ResourceError` leaves this module, and all the faults
of a resource are reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from controlplane.errors import InvalidResourceError, ResourceError, UnsupportedKindError
from controlplane.resources.base import Message
from controlplane.resources.core import Namespace, Service
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.foreign import FOREIGN_KINDS, ForeignKind, foreign_kind, is_istios
from controlplane.resources.metadata import Metadata
from controlplane.resources.peer_authentication import PeerAuthentication
from controlplane.resources.service_entry import ServiceEntry
from controlplane.resources.sidecar import Sidecar
from controlplane.resources.virtual_service import VirtualService
from controlplane.resources.words import explain, nearest, show, suggestion
from controlplane.resources.workload_entry import WorkloadEntry
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, PUSH_ORDER, ROUTE

ModelT = TypeVar("ModelT", bound=Message)

_NETWORKING = tuple(f"networking.istio.io/{version}" for version in ("v1", "v1beta1", "v1alpha3"))
_SECURITY = tuple(f"security.istio.io/{version}" for version in ("v1", "v1beta1"))
_CORE = ("v1",)


_EVERYTHING = frozenset(PUSH_ORDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """``touches``: the types of xDS resources that are built from it, by their URLs. What it is of a
    workload's endpoints is told apart."""

    model: type[Message]
    api_versions: tuple[str, ...]
    touches: frozenset[str]
    namespaced: bool = True


KINDS: Mapping[str, Kind] = {
    "Namespace": Kind(model=Namespace, api_versions=_CORE, touches=frozenset(), namespaced=False),
    "Service": Kind(model=Service, api_versions=_CORE, touches=_EVERYTHING),
    # What a route leads to is visible: it has a cluster, and perhaps a listener.
    "VirtualService": Kind(
        model=VirtualService, api_versions=_NETWORKING, touches=frozenset({CLUSTER, LISTENER, ROUTE})
    ),
    # Policies are in clusters, subsets in endpoints too, and idle timeouts of connections in listeners.
    "DestinationRule": Kind(
        model=DestinationRule, api_versions=_NETWORKING, touches=frozenset({CLUSTER, ENDPOINT, LISTENER})
    ),
    "ServiceEntry": Kind(model=ServiceEntry, api_versions=_NETWORKING, touches=_EVERYTHING),
    "WorkloadEntry": Kind(model=WorkloadEntry, api_versions=_NETWORKING, touches=frozenset()),
    # Endpoints too: of several declarations of a host it may import another one.
    "Sidecar": Kind(model=Sidecar, api_versions=_NETWORKING, touches=_EVERYTHING),
    # A port that refuses mesh TLS is dialled without: by each endpoint, or by a cluster that chooses none.
    "PeerAuthentication": Kind(
        model=PeerAuthentication, api_versions=_SECURITY, touches=frozenset({CLUSTER, ENDPOINT, LISTENER})
    ),
}

_TOP_LEVEL_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A valid document: one of the models of `KINDS`, and what its metadata says."""

    kind: str
    metadata: Metadata
    spec: Message


def identify(document: object) -> tuple[str, str, str]:
    """``(kind, namespace, name)`` of a document, however wrong the rest of it may be.

    Raises `ResourceError` when it does not say.
    """
    if not isinstance(document, Mapping):
        raise ResourceError("", "is no resource: it should be a mapping with apiVersion, kind and metadata")
    kind = document.get("kind")
    if not isinstance(kind, str) or not kind:
        raise ResourceError("kind", "is required, and a string")
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        raise ResourceError("metadata", "is required, and a mapping")
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        raise ResourceError("metadata.name", "is required, and a string")
    namespace = metadata.get("namespace", "default")
    if kind in KINDS and not KINDS[kind].namespaced:
        namespace = ""
    return kind, namespace if isinstance(namespace, str) else "default", name


def resembles_known_kind(kind: str) -> bool:
    """Whether a kind may be a misspelt one of ours (``VirtualServices``), rather than another API's."""
    return nearest(kind, KINDS, similarity=0.8) is not None


def is_supported(group: str, name: str) -> bool:
    """Whether the kind of an API group is one of `KINDS`."""
    kind = KINDS.get(name)
    return kind is not None and any(version.startswith(f"{group}/") for version in kind.api_versions)


def unsupported_kind(name: str, api_version: object) -> ForeignKind | None:
    """The document's kind, if it is one of Istio or of Kubernetes' Gateway API that is not supported."""
    # `VirtualServices` is a slip of the pen.
    if name in KINDS or (name not in FOREIGN_KINDS and resembles_known_kind(name)):
        return None
    return foreign_kind(name, api_version)


def unsupported(kind: ForeignKind) -> UnsupportedKindError:
    """What to say of a resource of such a kind."""
    whose = "Istio's" if is_istios(kind.group) else "Kubernetes' Gateway API"
    words = f"{kind.name} is a kind of {whose} that is not supported yet: {kind.consequence}"
    return UnsupportedKindError("kind", words, kind=kind.name, group=kind.group)


def parse_resource(document: object, *, served: bool = False) -> Resource:
    """The resource that a document describes. ``status`` is ignored: it is ours to write.

    ``served``: an API server gave it, which may be newer than we are, and lets nobody misspell a field of
    Kubernetes' own: one that is not known here is passed over.

    Raises `InvalidResourceError` with every fault, or `ResourceError` when it is no resource at all.
    """
    kind_name, _, _ = identify(document)
    assert isinstance(document, Mapping)  # as `identify` found
    kind = _known_kind(kind_name, document.get("apiVersion"))
    errors = [
        ResourceError(str(field), f"unknown field{suggestion(str(field), _TOP_LEVEL_FIELDS)}")
        for field in document
        if field not in _TOP_LEVEL_FIELDS
    ]
    metadata = _validate(Metadata, document["metadata"], "metadata", errors, lenient=served)
    is_kubernetes_own = kind.api_versions is _CORE
    spec = _validate(
        kind.model, document.get("spec", {}), "spec", errors, lenient=served and is_kubernetes_own
    )
    if errors or metadata is None or spec is None:
        raise InvalidResourceError(tuple(errors))
    return Resource(kind=kind_name, metadata=metadata, spec=spec)


def document_of(resource: Resource) -> dict[str, Any]:
    """A document that `parse_resource` makes the same resource of; JSON-able."""
    kind = KINDS[resource.kind]
    return {
        "apiVersion": kind.api_versions[0],
        "kind": resource.kind,
        "metadata": _dump(resource.metadata),
        "spec": _dump(resource.spec),
    }


def _dump(message: Message) -> Any:
    return message.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _known_kind(name: str, api_version: object) -> Kind:
    kind = KINDS.get(name)
    foreign = unsupported_kind(name, api_version)
    if foreign is not None:
        raise unsupported(foreign)
    if kind is None:
        raise ResourceError("kind", f"{name!r:.80} is no known kind{suggestion(name, KINDS)}")
    if api_version not in kind.api_versions:
        known = " or ".join(kind.api_versions)
        raise ResourceError("apiVersion", f"{show(api_version)} is no version of {name}; write {known}")
    return kind


def _validate(
    model: type[ModelT], value: object, path: str, errors: list[ResourceError], *, lenient: bool
) -> ModelT | None:
    """The model that ``value`` describes; or None, its faults being added to ``errors``."""
    try:
        return model.model_validate(value, extra="ignore" if lenient else "forbid")
    except ValidationError as error:
        errors += explain(error, model, path)
        return None
