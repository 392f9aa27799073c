"""Merges a partial pod into a pod, as Kubernetes' strategic merge patch does.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md

Objects are merged by field, and null removes a field. The lists below are merged by the key of their items,
all others are replaced. Items that are alternatives (an environment variable with a value or a reference, a
volume of one type or another, the action of a handler) are replaced as a whole. Directives (`$patch`) are not
supported.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from controlplane.injection.pod import JsonObject

# Lists that are merged, and the fields that identify an item, from ``PodSpec`` and ``Container``.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "resourceClaims": ("name",),
}
_DEFAULTS: Final = {"protocol": "TCP"}
# Items and objects with alternatives, of which a merge would result in two.
_WHOLE_ITEMS: Final = frozenset({"env", "volumes"})
_HANDLERS: Final = frozenset({"exec", "httpGet", "tcpSocket", "grpc", "sleep"})


def merge(base: JsonObject, patch: Mapping[str, Any]) -> JsonObject:
    """Returns ``base`` with ``patch`` merged into it. Neither is changed."""
    merged = dict(base)
    if _HANDLERS & patch.keys():
        for handler in _HANDLERS - patch.keys():
            merged.pop(handler, None)
    for key, value in patch.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = merge(old if isinstance(old, dict) else {}, value)
        elif isinstance(value, list) and isinstance(old, list) and key in _KEYS:
            merged[key] = _merge_items(key, old, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _merge_items(key: str, base: list[Any], patch: list[Any]) -> list[Any]:
    merged = list(base)
    positions = {_identity(key, item): index for index, item in enumerate(base)}
    for item in patch:
        identity = _identity(key, item)
        if identity not in positions:
            positions[identity] = len(merged)
            merged.append(copy.deepcopy(item))
        elif key in _WHOLE_ITEMS:
            merged[positions[identity]] = copy.deepcopy(item)
        else:
            merged[positions[identity]] = merge(merged[positions[identity]], item)
    return merged


def _identity(key: str, item: Any) -> tuple[Any, ...]:
    if not isinstance(item, dict):
        return (repr(item),)
    return tuple(item.get(field, _DEFAULTS.get(field)) for field in _KEYS[key])
