"""Injects the workloads of a YAML file. Its other documents stay as they are, byte for byte."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.errors import InjectionError
from controlplane.injection.config import InjectionConfig
from controlplane.injection.injector import inject
from controlplane.injection.pod import JsonObject
from controlplane.injection.request import Injection, InjectionRequest
from controlplane.model.mesh_config import MeshConfig
from controlplane.yaml_documents import YamlError, read_documents
from outrigger.errors import CommandError
from outrigger.yaml_writer import to_yaml

# YAML 1.2 section 9.1.2: this marker starts a document everywhere, also inside of a scalar.
_MARKER: Final = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
# Blank lines, comments and directives before the content.
_WITHOUT_CONTENT: Final = re.compile(r"(?:[ \t]*(?:[#%][^\n]*)?(?:\r?\n|\Z))*")

# The API groups of the kinds that contain a pod, and where.
_TEMPLATE: Final = ("spec", "template")
_KINDS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): _TEMPLATE,
    ("apps", "DaemonSet"): _TEMPLATE,
    ("apps", "Deployment"): _TEMPLATE,
    ("apps", "ReplicaSet"): _TEMPLATE,
    ("apps", "StatefulSet"): _TEMPLATE,
    ("apps.openshift.io", "DeploymentConfig"): _TEMPLATE,
    ("argoproj.io", "Rollout"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("batch", "Job"): _TEMPLATE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Injector:
    """``warn`` is called with each warning, and with each reason why a workload is not injected."""

    config: InjectionConfig
    mesh_config: MeshConfig
    namespace: str
    revision: str
    native_sidecars: bool
    warn: Callable[[str], None]

    def inject(self, text: str, source: str) -> str:
        """Returns the documents of ``text``, the file ``source``, with injected workloads. Raises
        `CommandError`: nothing is half injected."""
        starts = [match.end() for match in _MARKER.finditer(text)]
        ends = [start - len("---") for start in starts]
        parts = [text[start:end] for start, end in zip([0, *starts], [*ends, len(text)], strict=True)]
        line, injected = 1, []
        for index, part in enumerate(parts):
            injected.append(self._document(part, source, line, first=index == 0))
            line += part.count("\n")
        return "---".join(injected)

    def _document(self, text: str, source: str, line: int, *, first: bool) -> str:
        """``text`` starts at ``line``, after the marker of the document if it is not the ``first``."""
        before = _WITHOUT_CONTENT.match(text)
        comments = before[0] if before else ""
        if comments == text:
            return text
        try:
            values = [document.value for document in read_documents(text)]
        except YamlError as error:
            place = f"{source}: line {error.line + line - 1}, column {error.column}"
            raise CommandError(f"{place}: {error.reason}") from error
        if not values or not isinstance(values[0], dict):
            return text
        injected = self._object(values[0])
        if injected is values[0]:
            return text
        return f"{comments or ('' if first else chr(10))}{to_yaml(injected)}"

    def _object(self, value: JsonObject) -> JsonObject:
        """Returns ``value`` itself if it contains no workload, or only workloads that are not injected."""
        api_version, kind = value.get("apiVersion"), value.get("kind")
        if (api_version, kind) == ("v1", "List") and isinstance(value.get("items"), list):
            items = [self._object(item) if isinstance(item, dict) else item for item in value["items"]]
            changed = any(new is not old for new, old in zip(items, value["items"], strict=True))
            return {**value, "items": items} if changed else value
        group = str(api_version).rpartition("/")[0]
        path = _KINDS.get((group, str(kind)))
        return value if path is None else self._workload(value, path)

    def _workload(self, value: JsonObject, path: tuple[str, ...]) -> JsonObject:
        metadata = value.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        namespace = str(metadata.get("namespace") or self.namespace)
        name = str(metadata.get("name") or metadata.get("generateName") or "")
        title = f"{value['kind']} {namespace}/{name}"
        result = copy.deepcopy(value)
        parent, pod = _find(result, path, title)
        try:
            injection = inject(_owned(pod, value, name) if path else pod, self._request(namespace))
        except InjectionError as error:
            raise CommandError(f"{title}: {error}") from error
        self._report(title, injection)
        if not injection.injected:
            return value
        if not path:
            return injection.pod
        parent[path[-1]] = _without_owner(injection.pod, pod)
        return result

    def _report(self, title: str, injection: Injection) -> None:
        for warning in injection.warnings:
            self.warn(f"{title}: {warning}")
        if injection.skipped and not injection.warnings:
            self.warn(f"{title}: not injected: {injection.skipped}")

    def _request(self, namespace: str) -> InjectionRequest:
        return InjectionRequest(
            namespace=namespace,
            config=self.config,
            mesh_config=self.mesh_config,
            native_sidecars=self.native_sidecars,
            revision=self.revision,
        )


def _find(value: JsonObject, path: tuple[str, ...], title: str) -> tuple[JsonObject, JsonObject]:
    """Returns the object that contains the pod, and the pod. Raises `CommandError`."""
    parent, found = value, value
    for index, key in enumerate(path):
        parent, child = found, found.get(key)
        if not isinstance(child, dict):
            raise CommandError(f"{title}: {'.'.join(path[: index + 1])}: should be a mapping")
        found = child
    return parent, found


def _owned(pod: JsonObject, owner: JsonObject, name: str) -> JsonObject:
    """Returns the pod as the controller of the workload creates it, so that it has the same name."""
    metadata: Any = pod.get("metadata")
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name, "controller": True}
    created = {"generateName": f"{name}-", "ownerReferences": [reference]}
    return {**pod, "metadata": {**(metadata if isinstance(metadata, dict) else {}), **created}}


def _without_owner(injected: JsonObject, template: JsonObject) -> JsonObject:
    """Returns the injected pod with the name and the owner of ``template``."""
    given = template.get("metadata") or {}
    metadata = dict(injected["metadata"])
    for key in ("generateName", "ownerReferences"):
        del metadata[key]
        if key in given:
            metadata[key] = given[key]
    return {**injected, "metadata": metadata}
