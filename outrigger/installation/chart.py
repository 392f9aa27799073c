"""The chart: values -> Kubernetes objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final

import yaml

from outrigger.cluster.objects import Document, reference
from outrigger.errors import CommandError
from outrigger.installation.template import Renderer, TemplateError
from outrigger.installation.values import Values, check_values, overlaid, without_nulls

_SEPARATOR: Final = re.compile(r"^---$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What Helm's templates have as `.Release`."""

    name: str
    namespace: str
    service: str


class Chart:
    """A chart in a folder: by default, the one of this package."""

    def __init__(self, folder: Traversable | None = None) -> None:
        self._folder: Final = folder or resources.files("outrigger.installation") / "chart"

    @cached_property
    def version(self) -> str:
        version: str = self._yaml("Chart.yaml")["appVersion"]
        return version

    @cached_property
    def defaults(self) -> Values:
        return self._yaml("values.yaml")

    def render(self, release: Release, given: Mapping[str, Any]) -> list[Document]:
        """The objects, in the order in which they are created. Raises `CommandError` for invalid values."""
        return [document for document, _ in self._rendered(release, given)]

    def manifests(self, release: Release, given: Mapping[str, Any]) -> str:
        """The same as YAML, with the comments of the templates."""
        return "---\n".join(text for _, text in self._rendered(release, given))

    def _rendered(self, release: Release, given: Mapping[str, Any]) -> list[tuple[Document, str]]:
        values = without_nulls(overlaid(self.defaults, given))
        check_values(values)
        data = self._data(release, values)
        try:
            texts = [self._renderer.render(name, data) for name in self._manifests]
        except TemplateError as error:
            raise CommandError(f"the chart cannot be rendered: {error}") from error
        parts = [part.strip("\n") + "\n" for text in texts for part in _SEPARATOR.split(text)]
        found = [(document, part) for part in parts if (document := yaml.load(part, yaml.CSafeLoader))]
        return sorted(found, key=lambda each: reference(each[0]).order)

    def notes(self, release: Release, given: Mapping[str, Any]) -> str:
        """What a user does next."""
        return self._renderer.render("NOTES.txt", self._data(release, overlaid(self.defaults, given)))

    def _data(self, release: Release, values: Values) -> Document:
        chart = self._yaml("Chart.yaml")
        return {
            "Values": values,
            "Release": {"Name": release.name, "Namespace": release.namespace, "Service": release.service},
            "Chart": {"Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"]},
        }

    @property
    def _manifests(self) -> list[str]:
        return sorted(name for name in self._sources if name.endswith(".yaml"))

    @cached_property
    def _renderer(self) -> Renderer:
        return Renderer(self._sources)

    @cached_property
    def _sources(self) -> Mapping[str, str]:
        templates = self._folder / "templates"
        return {each.name: each.read_text("utf-8") for each in templates.iterdir()}

    def _yaml(self, name: str) -> Document:
        document: Document = yaml.load((self._folder / name).read_bytes(), yaml.CSafeLoader)
        return document
