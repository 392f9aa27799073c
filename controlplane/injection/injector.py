"""Injects a sidecar into a pod. A pure function, for the webhook and for `outrigger inject`."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final

from controlplane.errors import InjectionError
from controlplane.injection import metadata, names, overrides
from controlplane.injection.bypass import bypasses
from controlplane.injection.context import TemplateContext
from controlplane.injection.ordering import order
from controlplane.injection.owners import owner_of
from controlplane.injection.pod import JsonObject, all_containers, items
from controlplane.injection.pod_shape import check
from controlplane.injection.probes import rewrite_probes
from controlplane.injection.prometheus import merge_metrics
from controlplane.injection.reinjection import CONTAINER_LISTS, LISTS, without_injection
from controlplane.injection.request import Injection, InjectionRequest
from controlplane.injection.selection import decide
from controlplane.injection.settings import PodSettings
from controlplane.injection.settings_reader import pod_settings
from controlplane.injection.strategic_merge import merge
from controlplane.injection.templates import containers_of, render, selected
from controlplane.model.proxy import InterceptionMode

_CLUSTER_FIRST: Final = ("", None, "ClusterFirst")


def inject(pod: JsonObject, request: InjectionRequest) -> Injection:
    """Injects ``pod``, which is not changed. Raises `InjectionError` if it cannot be injected."""
    check(pod)
    decision = decide(pod, request)
    if decision.skipped:
        return Injection(pod=pod, injected=False, skipped=decision.skipped, warnings=decision.warnings)
    original = without_injection(pod)
    check(original)  # the annotations of the earlier injection contain parts of it
    settings, warnings = pod_settings(original, request)
    templates = selected(request.config, settings.templates)
    context = _context(original, request, settings, templates)
    partials = [render(name, context) for name in templates]
    _check_clashes(context, partials)
    merged = functools.reduce(merge, partials, context.pod)
    context.overrides.apply(merged)
    warnings += rewrite_probes(merged, settings)
    replaced = merge_metrics(merged, settings)
    order(merged, native=settings.native, hold_application=settings.hold_application)
    metadata.set_labels(merged, context.canonical_name)
    status = _status(context, partials, replaced)
    metadata.set_annotations(merged, status, request.config.injected_annotations)
    warnings = [*decision.warnings, *_dns_warning(pod), *bypasses(merged, context), *warnings]
    return Injection(pod=merged, injected=True, warnings=tuple(warnings))


def _context(
    pod: JsonObject, request: InjectionRequest, settings: PodSettings, templates: list[str]
) -> TemplateContext:
    """Moves the containers with our names from ``pod`` to the overrides."""
    own = overrides.take(
        pod,
        containers_of(request.config, templates),
        as_root=settings.interception is InterceptionMode.TPROXY,
    )
    owner = owner_of(pod)
    return TemplateContext(
        pod=pod,
        request=request,
        settings=settings,
        overrides=own,
        owner=owner,
        canonical_name=metadata.canonical_name(pod, owner.name),
    )


def _dns_warning(pod: JsonObject) -> list[str]:
    policy = pod["spec"].get("dnsPolicy")
    if policy in _CLUSTER_FIRST:
        return []
    return [f"dnsPolicy is {policy!r:.80}: the proxy may not find the control plane by its name"]


def _check_clashes(context: TemplateContext, partials: Iterable[JsonObject]) -> None:
    """A volume of a template must have a name of its own, and a container with one of our names must
    customize a container of a template."""
    rendered = {container["name"] for partial in partials for container in all_containers(partial)}
    for containers in context.overrides.by_list.values():
        for container in containers:
            if container["name"] not in rendered:
                raise InjectionError(
                    f"container {container['name']}: the name is reserved, and no template adds it"
                )
    given = [volume["name"] for volume in items(context.pod["spec"], "volumes")]
    for partial in partials:
        for volume in items(partial["spec"], "volumes"):
            if volume["name"] in given:
                raise InjectionError(f"volume {volume['name']}: a template adds a volume of this name")
            given.append(volume["name"])


def _status(
    context: TemplateContext, partials: Iterable[JsonObject], replaced: dict[str, str] | None
) -> JsonObject:
    """Returns what the next injection must undo: the names that the templates add to each list, and the
    ``replaced`` annotations for Prometheus."""
    status: JsonObject = {}
    for key in LISTS:
        given = {item.get("name") for item in items(context.pod["spec"], key)}
        added = dict.fromkeys(item["name"] for partial in partials for item in items(partial["spec"], key))
        # A container of the user that a template changes is stored in the overrides.
        status[key] = [name for name in added if name not in given or key in CONTAINER_LISTS]
    status["revision"] = context.request.revision or names.DEFAULT_REVISION
    return status if replaced is None else {**status, "prometheus": replaced}
