"""The user's own containers that a template also contains: they customize the template's."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from controlplane.injection import names
from controlplane.injection.annotation_reader import AnnotationReader
from controlplane.injection.annotation_values import json_value
from controlplane.injection.pod import JsonObject, annotations_of, find, items, section
from controlplane.injection.strategic_merge import merge
from controlplane.resources.base import invalid

_AUTO_IMAGE: Final = "auto"
_LISTS: Final = ("initContainers", "containers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """The user's containers that templates change, by the list that contains them. ``as_root``: the proxy
    cannot have another user."""

    by_list: dict[str, list[JsonObject]]
    as_root: bool = False

    def named(self, name: str) -> JsonObject | None:
        return find([container for containers in self.by_list.values() for container in containers], name)

    @property
    def run_as_user(self) -> int | None:
        return None if self.as_root else self._of_security_context("runAsUser")

    @property
    def run_as_group(self) -> int | None:
        return self._of_security_context("runAsGroup")

    def _of_security_context(self, field: str) -> int | None:
        proxy = self.named(names.PROXY) or {}
        value = (proxy.get("securityContext") or {}).get(field)
        return value if isinstance(value, int) else None

    def apply(self, pod: JsonObject) -> None:
        """Merges the user's containers over those of the templates, and stores them in an annotation for the
        next injection."""
        for key in _LISTS:
            containers = items(pod["spec"], key)
            for index, container in enumerate(containers):
                if (own := self.named(container["name"])) is not None:
                    containers[index] = merge(container, _without_auto_image(own))
                    if self.as_root and container["name"] == names.PROXY:
                        section(containers[index], "securityContext")["runAsUser"] = 0
        if any(self.by_list.values()):
            stored = {
                key: sorted(containers, key=_name)  # in the same order after each injection
                for key, containers in self.by_list.items()
                if containers
            }
            target = section(section(pod, "metadata"), "annotations")
            target[names.OVERRIDES] = json.dumps(stored, separators=(",", ":"))


def take(pod: JsonObject, template_containers: Collection[str], *, as_root: bool) -> Overrides:
    """Finds the containers of ``pod`` that are also in a template, and removes those with our names: the
    template decides which list they are in."""
    taken: dict[str, list[JsonObject]] = {}
    for key in _LISTS:
        containers = items(pod["spec"], key)
        taken[key] = [
            container
            for container in containers
            if container["name"] in names.CONTAINERS or container["name"] in template_containers
        ]
        if containers:
            pod["spec"][key] = [c for c in containers if c["name"] not in names.CONTAINERS]
    return Overrides(by_list=taken, as_root=as_root)


def stored(pod: JsonObject) -> dict[str, list[JsonObject]]:
    """Returns the containers that an earlier injection has stored. Raises `InjectionError`."""
    return AnnotationReader(annotations_of(pod)).get(names.OVERRIDES, _parse, {})


def _parse(text: str) -> dict[str, list[JsonObject]]:
    value = json_value(text)
    if not isinstance(value, dict) or not value.keys() <= set(_LISTS):
        raise invalid("should be an object with `containers` and `initContainers`")
    for containers in value.values():
        if not isinstance(containers, list) or not all(map(_is_container, containers)):
            raise invalid("should only contain lists of containers")
    return value


def _is_container(container: Any) -> bool:
    return isinstance(container, dict) and isinstance(container.get("name"), str)


def _without_auto_image(container: JsonObject) -> JsonObject:
    """``image: auto`` means the template's image: a container must have one."""
    if container.get("image") in (_AUTO_IMAGE, "", None):
        return {key: value for key, value in container.items() if key != "image"}
    return container


def _name(container: JsonObject) -> str:
    return str(container["name"])
