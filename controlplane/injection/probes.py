"""Rewrites the application's probes and hooks: the kubelet asks the proxy, which asks the application.

Without this, the kubelet could not probe an application that requires mutual TLS.
https://istio.io/latest/docs/ops/configuration/mesh/app-health-check/
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.errors import InjectionError
from controlplane.injection import names
from controlplane.injection.annotation_values import json_value
from controlplane.injection.dollars import escape, unescape
from controlplane.injection.pod import JsonObject, env_value, items, serving_container, set_env
from controlplane.injection.settings import PodSettings

_PROBES: Final = {"readinessProbe": "readyz", "livenessProbe": "livez", "startupProbe": "startupz"}
_HOOKS: Final = {"postStart": "poststartz", "preStop": "prestopz"}
_PROBE_HANDLERS: Final = ("httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS: Final = ("httpGet", "tcpSocket")
_PREFIX: Final = "/app-health/"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Handler:
    """The handler ``kind`` of a probe or hook, which is the object ``holder``. ``path`` is the proxy's path
    for it."""

    container: JsonObject
    holder: JsonObject
    kind: str
    path: str


def rewrite_probes(pod: JsonObject, settings: PodSettings) -> list[str]:
    """Rewrites the probes and hooks of all containers but ours. Returns warnings."""
    proxy = serving_container(pod)
    if proxy is None or not settings.rewrite_probes or not settings.metrics_port:
        return []
    probers: dict[str, JsonObject] = {}
    warnings = []
    for handler in _handlers(pod, settings):
        port = _port(handler)
        if port is None:
            name = handler.holder[handler.kind].get("port")
            warnings.append(
                f"container {handler.container['name']}: a probe of port {name!r:.80} is not rewritten: "
                f"the container has no port of this name"
            )
            continue
        probers[handler.path] = _prober(handler, port)
        del handler.holder[handler.kind]
        handler.holder["httpGet"] = {"path": handler.path, "port": settings.metrics_port, "scheme": "HTTP"}
    if probers:
        set_env(proxy, names.APP_PROBERS, escape(json.dumps(probers, separators=(",", ":"))))
    return warnings


def restore(pod: JsonObject) -> None:
    """Puts the probes and hooks back that an earlier injection has rewritten. Raises `InjectionError`."""
    proxy = serving_container(pod)
    stored = env_value(proxy, names.APP_PROBERS) if proxy else None
    if stored is None:
        return
    probers = _stored(unescape(stored))
    for container in _others(pod):
        for holder in _holders(container):
            prober = probers.get(str((holder.get("httpGet") or {}).get("path")))
            if prober is not None:
                del holder["httpGet"]
                holder.update({kind: prober[kind] for kind in _PROBE_HANDLERS if kind in prober})


def _handlers(pod: JsonObject, settings: PodSettings) -> Iterator[_Handler]:
    """Yields the handlers that the proxy can serve. It does not run yet when an ordinary container's init
    containers start, or when the hook after the start of an application runs that does not wait for it."""
    spec = pod["spec"]
    containers = [*(items(spec, "initContainers") if settings.native else ()), *items(spec, "containers")]
    waits = settings.native or settings.hold_application
    for container in containers:
        if container["name"] in names.CONTAINERS:
            continue
        path = f"{_PREFIX}{container['name']}"
        for key, suffix in _PROBES.items():
            yield from _of(container, container.get(key), _PROBE_HANDLERS, f"{path}/{suffix}")
        lifecycle = container.get("lifecycle") or {}
        for key, suffix in _HOOKS.items():
            if waits or key != "postStart":
                yield from _of(container, lifecycle.get(key), _HOOK_HANDLERS, f"{path}/{suffix}")


def _of(
    container: JsonObject, holder: JsonObject | None, kinds: tuple[str, ...], path: str
) -> Iterator[_Handler]:
    for kind in kinds:
        if holder and isinstance(handler := holder.get(kind), dict):
            if not str(handler.get("path", "")).startswith(_PREFIX):  # rewritten by hand
                yield _Handler(container=container, holder=holder, kind=kind, path=path)
            return


def _port(handler: _Handler) -> int | None:
    """Returns the port's number, which the kubelet would find by its name in the container's ports."""
    port = handler.holder[handler.kind].get("port")
    if isinstance(port, int):
        return port
    for declared in items(handler.container, "ports"):
        if port and declared.get("name") == port:
            return int(declared["containerPort"])
    return (
        int(port)
        if isinstance(port, str) and port.isascii() and port.isdecimal() and len(port) <= 5
        else None
    )


def _prober(handler: _Handler, port: int) -> JsonObject:
    prober: JsonObject = {handler.kind: {**handler.holder[handler.kind], "port": port}}
    if "timeoutSeconds" in handler.holder:
        prober["timeoutSeconds"] = handler.holder["timeoutSeconds"]
    return prober


def _others(pod: JsonObject) -> Iterator[JsonObject]:
    for key in ("initContainers", "containers"):
        yield from (c for c in items(pod["spec"], key) if c["name"] not in names.CONTAINERS)


def _holders(container: JsonObject) -> Iterator[JsonObject]:
    lifecycle = container.get("lifecycle") or {}
    for holder in (*map(container.get, _PROBES), *map(lifecycle.get, _HOOKS)):
        if isinstance(holder, dict):
            yield holder


def _stored(text: str) -> Mapping[str, JsonObject]:
    try:
        probers: Any = json_value(text)
    except ValueError as error:
        raise InjectionError(f"variable {names.APP_PROBERS} of {names.PROXY}: {error}") from error
    if not isinstance(probers, dict) or not all(isinstance(prober, dict) for prober in probers.values()):
        raise InjectionError(f"variable {names.APP_PROBERS} of {names.PROXY}: should be an object of objects")
    return probers
