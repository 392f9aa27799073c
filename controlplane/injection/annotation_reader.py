"""Reads annotations. Each error names the annotation and its value."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from controlplane.errors import InjectionError
from controlplane.resources.base import invalid
from controlplane.resources.error_messages import nearest
from controlplane.yaml_documents import YamlError, read_documents

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


def boolean(text: str) -> bool:
    """Parses the spellings of Go's ``strconv.ParseBool``. Raises ``ValueError``."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise invalid("should be true or false")


def number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**31):
        raise invalid("should be a number, 0 or more")
    return int(text)


def positive_number(text: str) -> int:
    value = number(text)
    if value == 0:
        raise invalid("should be a number, 1 or more")
    return value


def port_or_zero(text: str) -> int:
    value = number(text)
    if value > 65535:
        raise invalid("should be a port number, or 0")
    return value


def json_value(text: str) -> Any:
    """Parses JSON. Raises ``ValueError``."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise invalid("is nested too deep") from error
    except ValueError as error:
        raise invalid(f"is not JSON: {error}") from error


def yaml_mapping(text: str) -> dict[str, Any]:
    """Parses a YAML mapping. Raises ``ValueError``."""
    try:
        documents = list(read_documents(text))
    except YamlError as error:
        raise invalid(f"is not YAML: {error}") from error
    if not documents:
        return {}
    if len(documents) > 1 or not isinstance(documents[0].value, dict):
        raise invalid("should be one YAML mapping")
    return documents[0].value
