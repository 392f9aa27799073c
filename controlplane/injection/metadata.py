"""The labels and annotations of an injected pod."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from controlplane.injection import names
from controlplane.injection.pod import JsonObject, app_containers, labels_of, section

_LONGEST_LABEL: Final = 63
_NAME_LABELS: Final = (names.CANONICAL_NAME, "app.kubernetes.io/name", "app")
_REVISION_LABELS: Final = (names.CANONICAL_REVISION, "app.kubernetes.io/version", "version")


def canonical_name(pod: JsonObject, workload: str) -> str:
    """Returns the name of the service in metrics. A workload's name can be longer than a label's value."""
    given = (labels_of(pod).get(label) for label in _NAME_LABELS)
    return next(filter(None, given), workload)[:_LONGEST_LABEL].strip("-_.")


def set_labels(pod: JsonObject, name: str) -> None:
    """``name`` is the canonical name."""
    given = (labels_of(pod).get(label) for label in _REVISION_LABELS)
    revision = next(filter(None, given), "latest")
    target = section(section(pod, "metadata"), "labels")
    if name:
        target[names.CANONICAL_NAME] = name
    target[names.CANONICAL_REVISION] = revision


def set_annotations(pod: JsonObject, status: JsonObject, injected: Mapping[str, str]) -> None:
    """``status`` tells the next injection what to remove. ``injected`` are those of the configuration."""
    target = section(section(pod, "metadata"), "annotations")
    apps = app_containers(pod)
    if apps:
        for name in (names.DEFAULT_CONTAINER, names.DEFAULT_LOGS_CONTAINER):
            target.setdefault(name, apps[0]["name"])
    target[names.REVISION] = status["revision"]
    target.update(injected)
    target[names.STATUS] = json.dumps(status, separators=(",", ":"))
