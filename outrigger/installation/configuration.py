"""Checks the configuration files in the ConfigMaps of the chart, before a control plane reads them: with an
invalid one it refuses all pods when it starts, or does not start."""

from __future__ import annotations

from collections.abc import Iterable

from outrigger.cluster.objects import Document, reference
from outrigger.errors import CommandError


def check_configuration(documents: Iterable[Document]) -> None:
    """Raises `CommandError` with the names of the values, and of the field."""
    from controlplane.errors import SettingsError
    from controlplane.injection.config import InjectionConfig
    from controlplane.mesh_config_file import parse_mesh_config

    for document in documents:
        if document["kind"] != "ConfigMap":
            continue
        files = document.get("data") or {}
        values = ""
        try:
            if "config" in files:
                values = "injection.config, injection.values"
                InjectionConfig.parse(files["config"])
            if "mesh" in files:
                values = "meshConfig"
                parse_mesh_config(files["mesh"], str(reference(document)))
        except SettingsError as error:
            raise CommandError(f"the value of {values} is invalid: {error}") from error
