"""Removes what an earlier injection has added to a pod, so that a pod can be injected again."""

from __future__ import annotations

import copy
from typing import Any, Final

from controlplane.injection import names, overrides, probes, prometheus
from controlplane.injection.annotation_reader import AnnotationReader
from controlplane.injection.annotation_values import json_value
from controlplane.injection.pod import JsonObject, annotations_of, items, section
from controlplane.resources.base import invalid

CONTAINER_LISTS: Final = ("initContainers", "containers")
LISTS: Final = (*CONTAINER_LISTS, "volumes", "imagePullSecrets")


def without_injection(pod: JsonObject) -> JsonObject:
    """Returns a copy of ``pod`` as it was before it was injected. Raises `InjectionError` if the annotation
    with the status is invalid."""
    pod = copy.deepcopy(pod)
    status = AnnotationReader(annotations_of(pod)).get(names.STATUS, _status, None)
    if status is None:
        section(section(pod, "metadata"), "annotations").pop(names.OVERRIDES, None)
        return pod
    probes.restore(pod)
    if (replaced := status.get("prometheus")) is not None:
        prometheus.restore(pod, replaced)
    stored = overrides.stored(pod)
    for key in LISTS:
        added = set(status.get(key) or ())
        originals = {container["name"]: container for container in stored.get(key, [])}
        kept = []
        for item in items(pod["spec"], key):
            if item.get("name") not in added:
                kept.append(item)
            elif item["name"] in originals:
                kept.append(originals.pop(item["name"]))
        kept += originals.values()
        if kept or key == "containers":
            pod["spec"][key] = kept
        elif items(pod["spec"], key):
            del pod["spec"][key]
    for name in (names.STATUS, names.OVERRIDES):
        pod["metadata"]["annotations"].pop(name, None)
    return pod


def _status(text: str) -> JsonObject:
    value = json_value(text)
    if not isinstance(value, dict):
        raise invalid("should be a JSON object")
    for key in LISTS:
        if not _is_list_of_names(value.get(key) or []):
            raise invalid(f"`{key}` should be a list of names")
    replaced = value.get("prometheus")
    if replaced is not None and not (
        isinstance(replaced, dict) and all(isinstance(item, str) for item in replaced.values())
    ):
        raise invalid("`prometheus` should be an object with annotations")
    return value


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
