"""Label selectors of Kubernetes: `metav1.LabelSelector`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_OPERATORS: Final[Mapping[str, Callable[[str | None, list[str]], bool]]] = {
    "In": lambda label, values: label in values,
    "NotIn": lambda label, values: label not in values,
    "Exists": lambda label, _: label is not None,
    "DoesNotExist": lambda label, _: label is None,
}


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether the labels fulfil all requirements. A missing or empty selector selects everything."""
    requirements = selector or {}
    return all(
        labels.get(key) == value for key, value in (requirements.get("matchLabels") or {}).items()
    ) and all(
        _OPERATORS[each["operator"]](labels.get(each["key"]), each.get("values") or [])
        for each in requirements.get("matchExpressions") or ()
    )
