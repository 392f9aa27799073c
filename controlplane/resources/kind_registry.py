"""Reads documents of the registered kinds.

A document is the decoded YAML or JSON of one resource. Every fault of a resource is reported at once, and
`ResourceError` is the only error that leaves this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from controlplane.errors import InvalidResourceError, ResourceError, UnsupportedKindError
from controlplane.resources.base import Message
from controlplane.resources.error_messages import explain, nearest, show, suggestion
from controlplane.resources.foreign import FOREIGN_KINDS, ForeignKind, foreign_kind, is_istios
from controlplane.resources.kind import ResourceKind
from controlplane.resources.metadata import Metadata
from controlplane.resources.resource import Resource

KindT = TypeVar("KindT", bound=ResourceKind[Any])
ModelT = TypeVar("ModelT", bound=Message)

_TOP_LEVEL_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


class KindRegistry(Mapping[str, KindT], Generic[KindT]):
    """The kinds by name, in the order in which they are given."""

    def __init__(self, kinds: Iterable[KindT]) -> None:
        self._kinds = {kind.name: kind for kind in kinds}

    def __getitem__(self, name: str) -> KindT:
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def identify(self, document: object) -> tuple[str, str, str]:
        """``(kind, namespace, name)`` of a document, whether the rest of it is valid or not.

        Raises `ResourceError` if one of them is missing.
        """
        if not isinstance(document, Mapping):
            raise ResourceError("", "is not a resource: expected a mapping with apiVersion, kind, metadata")
        kind = document.get("kind")
        if not isinstance(kind, str) or not kind:
            raise ResourceError("kind", "is required, and must be a string")
        metadata = document.get("metadata")
        if not isinstance(metadata, Mapping):
            raise ResourceError("metadata", "is required, and must be a mapping")
        name = metadata.get("name")
        if not isinstance(name, str) or not name:
            raise ResourceError("metadata.name", "is required, and must be a string")
        namespace = metadata.get("namespace", "default")
        if kind in self and not self[kind].namespaced:
            namespace = ""
        return kind, namespace if isinstance(namespace, str) else "default", name

    def resembles_known_kind(self, kind: str) -> bool:
        """Whether a name may be a misspelt kind of this registry, such as ``VirtualServices``."""
        return nearest(kind, self, similarity=0.8) is not None

    def supports(self, group: str, name: str) -> bool:
        """Whether the registry has the kind ``name`` of the API group."""
        kind = self.get(name)
        return kind is not None and kind.group == group

    def unsupported_kind(self, name: str, api_version: object) -> ForeignKind | None:
        """The document's kind, if it belongs to Istio or the Gateway API and is not supported."""
        # `VirtualServices` is a misspelling, not another kind of Istio.
        if name in self or (name not in FOREIGN_KINDS and self.resembles_known_kind(name)):
            return None
        return foreign_kind(name, api_version)

    def parse(self, document: object, *, served: bool = False) -> Resource:
        """The resource that a document describes. ``status`` is ignored: the control plane writes it.

        ``served``: the document comes from an API server. That may be newer than this program, and rejects
        misspelt fields itself, so unknown fields of Kubernetes' own kinds are ignored.

        Raises `InvalidResourceError` with every fault, or `ResourceError` if it is not a resource at all.
        """
        name, _, _ = self.identify(document)
        assert isinstance(document, Mapping)  # `identify` has checked it
        kind = self._known_kind(name, document.get("apiVersion"))
        errors = [
            ResourceError(str(field), f"unknown field{suggestion(str(field), _TOP_LEVEL_FIELDS)}")
            for field in document
            if field not in _TOP_LEVEL_FIELDS
        ]
        metadata = _validate(Metadata, document["metadata"], "metadata", errors, lenient=served)
        lenient = served and kind.is_core
        spec = _validate(kind.spec, document.get("spec", {}), "spec", errors, lenient=lenient)
        if errors or metadata is None or spec is None:
            raise InvalidResourceError(tuple(errors))
        return Resource(kind=name, metadata=metadata, spec=spec)

    def document_of(self, resource: Resource) -> dict[str, Any]:
        """A JSON-able document that `parse` reads as the same resource."""
        return {
            "apiVersion": self[resource.kind].api_versions[0],
            "kind": resource.kind,
            "metadata": _dump(resource.metadata),
            "spec": _dump(resource.spec),
        }

    def _known_kind(self, name: str, api_version: object) -> KindT:
        kind = self.get(name)
        foreign = self.unsupported_kind(name, api_version)
        if foreign is not None:
            raise unsupported(foreign)
        if kind is None:
            raise ResourceError("kind", f"unknown kind {name!r:.80}{suggestion(name, self)}")
        if api_version not in kind.api_versions:
            known = " or ".join(kind.api_versions)
            raise ResourceError(
                "apiVersion", f"{show(api_version)} is not a version of {name}; expected {known}"
            )
        return kind


def unsupported(kind: ForeignKind) -> UnsupportedKindError:
    """The error of every resource of a kind that is not supported."""
    owner = "Istio" if is_istios(kind.group) else "the Kubernetes Gateway API"
    reason = f"{kind.name} is a kind of {owner} that is not supported yet: {kind.consequence}"
    return UnsupportedKindError("kind", reason, kind=kind.name, group=kind.group)


def _dump(message: Message) -> Any:
    return message.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _validate(
    model: type[ModelT], value: object, path: str, errors: list[ResourceError], *, lenient: bool
) -> ModelT | None:
    """The model that ``value`` describes; None if it is invalid: its faults are added to ``errors``."""
    try:
        return model.model_validate(value, extra="ignore" if lenient else "forbid")
    except ValidationError as error:
        errors += explain(error, model, path)
        return None
