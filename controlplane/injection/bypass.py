"""Finds containers whose connections the interception rules take for those of the proxy."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.injection import names
from controlplane.injection.context import TemplateContext
from controlplane.injection.pod import JsonObject, items
from controlplane.model.proxy import InterceptionMode


def bypasses(pod: JsonObject, context: TemplateContext) -> Iterator[str]:
    """Yields a warning for each container that runs as the user or group of the proxy. Other init
    containers do so on purpose, to call out before the proxy runs.

    https://istio.io/latest/docs/ops/deployment/application-requirements/
    """
    if context.settings.interception is InterceptionMode.NONE:
        return
    group = context.overrides.run_as_group
    exempt = {
        "runAsUser": context.overrides.run_as_user or names.PROXY_ID,
        "runAsGroup": names.PROXY_ID if group is None else group,
    }
    of_pod = pod["spec"].get("securityContext") or {}
    for container in _applications(pod["spec"]):
        own = container.get("securityContext") or {}
        for field, value in exempt.items():
            if own.get(field, of_pod.get(field)) == value:
                yield (
                    f"container {container['name']}: {field} {value} is that of the proxy: its outbound "
                    f"connections bypass the proxy"
                )


def _applications(spec: JsonObject) -> Iterator[JsonObject]:
    sidecars = (each for each in items(spec, "initContainers") if each.get("restartPolicy") == "Always")
    yield from (
        each for each in (*sidecars, *items(spec, "containers")) if each["name"] not in names.CONTAINERS
    )
