"""Injects a sidecar into a pod. A pure function, for the webhook and for `outrigger inject`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from controlplane.errors import InjectionError
from controlplane.injection import metadata, names, overrides
from controlplane.injection.config import InjectionConfig
from controlplane.injection.context import TemplateContext
from controlplane.injection.ordering import order
from controlplane.injection.owners import owner_of
from controlplane.injection.pod import JsonObject, all_containers, check, find, items
from controlplane.injection.probes import rewrite_probes
from controlplane.injection.prometheus import merge_metrics
from controlplane.injection.reinjection import LISTS, without_injection
from controlplane.injection.selection import decide
from controlplane.injection.settings import pod_settings
from controlplane.injection.strategic_merge import merge
from controlplane.injection.templates import containers_of, render, selected
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy import InterceptionMode

_CLUSTER_FIRST: Final = ("", None, "ClusterFirst")


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionRequest:
    """What an injection depends on besides the pod. ``native_sidecars``: the kubelets of all nodes are new
    enough."""

    namespace: str
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    namespace_annotations: Mapping[str, str] = field(default_factory=dict)
    config: InjectionConfig
    mesh_config: MeshConfig
    native_sidecars: bool
    revision: str = names.DEFAULT_REVISION


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """The result: ``pod`` is the given one if it is not ``injected``, for the reason ``skipped``."""

    pod: JsonObject
    injected: bool
    skipped: str = ""
    warnings: tuple[str, ...] = ()


def inject(pod: JsonObject, request: InjectionRequest) -> Injection:
    """Injects ``pod``, which is not changed. Raises `InjectionError`: the pod is invalid for the injector."""
    check(pod)
    decision = decide(pod, request)
    if decision.skipped:
        return Injection(pod=pod, injected=False, skipped=decision.skipped, warnings=decision.warnings)
    warnings = [*decision.warnings, *_dns_warning(pod)]
    original = without_injection(pod)
    check(original)  # it contains what the annotations of the earlier injection contain
    settings, more = pod_settings(original, request)
    warnings += more
    templates = selected(request.config, settings.templates)
    own = overrides.take(
        original,
        containers_of(request.config, templates),
        as_root=settings.interception is InterceptionMode.TPROXY,
    )
    owner = owner_of(original)
    context = TemplateContext(
        pod=original,
        request=request,
        settings=settings,
        overrides=own,
        owner=owner,
        canonical_name=metadata.canonical_name(original, owner.name),
    )
    partials = [render(name, context) for name in templates]
    _check_clashes(original, partials, own)
    merged = original
    for partial in partials:
        merged = merge(merged, partial)
    own.apply(merged)
    warnings += rewrite_probes(merged, settings)
    replaced = merge_metrics(merged, settings)
    order(merged, native=settings.native, hold_application=settings.hold_application)
    metadata.set_labels(merged, context.canonical_name)
    status = _status(original, partials, request.revision)
    if replaced is not None:
        status["prometheus"] = replaced
    metadata.set_annotations(merged, status, request.config.injected_annotations)
    return Injection(pod=merged, injected=True, warnings=tuple(warnings))


def _dns_warning(pod: JsonObject) -> list[str]:
    policy = pod["spec"].get("dnsPolicy")
    if policy in _CLUSTER_FIRST:
        return []
    return [f"dnsPolicy is {policy!r:.80}: the proxy may not find the control plane by its name"]


def _check_clashes(original: JsonObject, partials: Iterable[JsonObject], own: overrides.Overrides) -> None:
    """The user's volumes must not have the names of ours, and a container with one of our names must
    customize a container of a template."""
    rendered = {container["name"] for partial in partials for container in all_containers(partial)}
    for key in ("initContainers", "containers"):
        for container in own.by_list.get(key, []):
            if container["name"] not in rendered:
                raise InjectionError(
                    f"container {container['name']}: the name is reserved, and no template adds it"
                )
    for partial in partials:
        for volume in items(partial["spec"], "volumes"):
            if find(items(original["spec"], "volumes"), volume["name"]) is not None:
                raise InjectionError(f"volume {volume['name']}: the name is reserved for the proxy")


def _status(original: JsonObject, partials: Iterable[JsonObject], revision: str) -> JsonObject:
    """Returns the names of the objects that the templates add to each list."""
    status: JsonObject = {}
    for key in LISTS:
        present = {item.get("name") for item in items(original["spec"], key)}
        names_of = dict.fromkeys(item["name"] for partial in partials for item in items(partial["spec"], key))
        status[key] = [name for name in names_of if name not in present or "ontainers" in key]
    status["revision"] = revision or names.DEFAULT_REVISION
    return status
