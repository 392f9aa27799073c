"""The templates: each is rendered to a partial pod, which is merged into the pod."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from controlplane.errors import InjectionError
from controlplane.injection import names
from controlplane.injection.config import GATEWAY_TEMPLATE, SIDECAR_TEMPLATE, DataPlane, InjectionConfig
from controlplane.injection.containers.envoy import agent, envoy
from controlplane.injection.containers.interception import interception
from controlplane.injection.containers.sidecar import sidecar
from controlplane.injection.containers.volumes import volumes
from controlplane.injection.context import TemplateContext
from controlplane.injection.pod import JsonObject, items, labels_of


def _sidecar(context: TemplateContext) -> JsonObject:
    """The proxy of an application."""
    partial = _with_proxies(context, "sidecar", native=context.settings.native)
    partial["spec"]["initContainers"] = [*interception(context), *items(partial["spec"], "initContainers")]
    tls_mode = labels_of(context.pod).get(names.TLS_MODE) or "istio"
    partial["metadata"]["labels"] = {names.TLS_MODE: tls_mode}
    return partial


def _gateway(context: TemplateContext) -> JsonObject:
    """A proxy that is the application itself: nothing is intercepted."""
    return _with_proxies(context, "router", native=False)


_BUILT_IN: Final[Mapping[str, Callable[[TemplateContext], JsonObject]]] = {
    SIDECAR_TEMPLATE: _sidecar,
    GATEWAY_TEMPLATE: _gateway,
}


def selected(config: InjectionConfig, chosen: tuple[str, ...]) -> list[str]:
    """Returns the names of the templates, without aliases. Raises `InjectionError` for an unknown one."""
    found: list[str] = []
    for name in chosen:
        for template in config.aliases.get(name, (name,)):
            if template not in _BUILT_IN and template not in config.templates:
                known = ", ".join(sorted({*_BUILT_IN, *config.templates, *config.aliases}))
                raise InjectionError(
                    f"annotation inject.istio.io/templates: unknown template {template!r:.80}: "
                    f"expected one of {known}"
                )
            if template not in found:
                found.append(template)
    if not found:
        raise InjectionError("annotation inject.istio.io/templates: should name at least one template")
    return found


def containers_of(config: InjectionConfig, templates: list[str]) -> set[str]:
    """Returns the names of the containers that custom templates contain."""
    return {
        container["name"]
        for name in templates
        for key in ("initContainers", "containers")
        for container in items(config.templates.get(name, {}).get("spec") or {}, key)
    }


def render(name: str, context: TemplateContext) -> JsonObject:
    """Returns the partial pod of a template. Raises `InjectionError`."""
    built_in = _BUILT_IN.get(name)
    return built_in(context) if built_in else context.request.config.templates[name]


def _with_proxies(context: TemplateContext, proxy_type: str, *, native: bool) -> JsonObject:
    envoys = context.settings.data_plane is DataPlane.ENVOY
    if envoys:
        proxies = [agent(context, proxy_type=proxy_type), envoy(context, proxy_type=proxy_type)]
    else:
        proxies = [sidecar(context, proxy_type=proxy_type)]
    spec: JsonObject = {}
    if native:
        spec["initContainers"] = [{**proxy, "restartPolicy": "Always"} for proxy in proxies]
    else:
        spec["containers"] = proxies
    spec["volumes"] = [
        *volumes(context, identity=envoys),
        *context.settings.user_volumes,
    ]
    if secrets := context.values.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in secrets]
    return {"metadata": {}, "spec": spec}
