"""Reads annotations. Each error names the annotation and its value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

from controlplane.errors import InjectionError
from controlplane.resources.error_messages import nearest

ValueT = TypeVar("ValueT")

# Annotations with these prefixes configure an injector or a proxy.
_PREFIXES: Final = (
    "inject.istio.io/",
    "proxy.istio.io/",
    "readiness.status.sidecar.istio.io/",
    "sidecar.istio.io/",
    "status.sidecar.istio.io/",
    "traffic.sidecar.istio.io/",
)
# Set by Istio's or our injector, or by tools; they configure nothing.
_WITHOUT_EFFECT: Final = frozenset(
    {"sidecar.istio.io/status", "proxy.istio.io/overrides", "sidecar.istio.io/inject"}
)


class AnnotationReader:
    """The annotations of a pod. `unknown` names those that were not read."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self._annotations = annotations
        self._read: set[str] = set()

    def get(self, name: str, parse: Callable[[str], ValueT], default: ValueT) -> ValueT:
        """Returns the parsed annotation, or ``default`` if it is missing. ``parse`` raises ``ValueError``.
        Raises `InjectionError`."""
        self._read.add(name)
        value = self._annotations.get(name)
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError as error:
            raise InjectionError(f"annotation {name}: {value!r:.200}: {error}") from error

    def unknown(self) -> Iterator[str]:
        """Yields a warning for each annotation of an injector or a proxy that was not read."""
        for name in sorted(self._annotations.keys() - self._read - _WITHOUT_EFFECT):
            if name.startswith(_PREFIXES):
                found = nearest(name, self._read, similarity=0.9)
                hint = f"; did you mean {found}?" if found else ""
                yield f"annotation {name} is not supported and ignored{hint}"
