"""The resource requests and limits of the proxy's container."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from controlplane.injection.annotation_reader import AnnotationReader
from controlplane.injection.pod import JsonObject
from controlplane.model.proxy_config import MOST_WORKERS
from controlplane.resources.base import invalid

# ``resource.Quantity`` of Kubernetes, without a sign.
_QUANTITY: Final = re.compile(
    r"(?:[0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:[eE][+-]?[0-9]{1,2}|[KMGTPE]i|[numkMGTPE])?"
)

_SUFFIXES: Final = {
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}

# Annotation, section and resource.
_ANNOTATIONS: Final = (
    ("sidecar.istio.io/proxyCPU", "requests", "cpu"),
    ("sidecar.istio.io/proxyMemory", "requests", "memory"),
    ("sidecar.istio.io/proxyCPULimit", "limits", "cpu"),
    ("sidecar.istio.io/proxyMemoryLimit", "limits", "memory"),
)


def proxy_resources(annotations: AnnotationReader, defaults: Mapping[str, Any] | None) -> JsonObject:
    """Returns the resources of the proxy. Any of the four annotations replaces all defaults, as in Istio.
    Raises `InjectionError`."""
    given: JsonObject = {}
    for annotation, part, resource in _ANNOTATIONS:
        quantity = annotations.get(annotation, _quantity, None)
        if quantity is not None:
            given.setdefault(part, {})[resource] = quantity
    return given or without_nulls(defaults or {})


def without_nulls(resources: Mapping[str, Any]) -> JsonObject:
    """Null removes a resource; 0 stays."""
    cleaned: JsonObject = {}
    for key, value in resources.items():
        kept = without_nulls(value) if isinstance(value, dict) else value
        if kept is not None and kept != {}:
            cleaned[key] = kept
    return cleaned


def workers(resources: Mapping[str, Any], default: int) -> int:
    """The workers of a proxy whose ProxyConfig has no ``concurrency``: as many as its CPU limit allows, where
    a part of a core counts as one, as in Istio since 1.18; without a valid limit, the default."""
    limits = resources.get("limits")
    limit = str(limits.get("cpu", "")) if isinstance(limits, Mapping) else ""
    if not _QUANTITY.fullmatch(limit):
        return default
    suffix = limit.lstrip("0123456789.")
    factor = _SUFFIXES.get(suffix)
    cores = Decimal(limit) if factor is None else Decimal(limit.removesuffix(suffix)) * factor
    return min(math.ceil(cores), MOST_WORKERS) or default  # 0 means no limit


def _quantity(text: str) -> str | None:
    if not _QUANTITY.fullmatch(text):
        raise invalid("is not a quantity such as 100m, 0.5 or 128Mi")
    return text
