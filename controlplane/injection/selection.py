"""Decides whether a pod is injected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controlplane.injection import names
from controlplane.injection.config import InjectionConfig, Policy
from controlplane.injection.pod import JsonObject, all_containers, annotations_of, find, labels_of
from controlplane.injection.request import InjectionRequest

INJECT: Final = "sidecar.istio.io/inject"
_NAMESPACE_SWITCH: Final = "istio-injection"
_SYSTEM_NAMESPACES: Final = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``skipped`` is the reason why the pod is not injected, or empty."""

    skipped: str = ""
    warnings: tuple[str, ...] = ()


def decide(pod: JsonObject, request: InjectionRequest) -> Decision:
    if reason := _forbidden(pod, request):
        return Decision(skipped=reason)
    if find(list(all_containers(pod)), names.ISTIO_PROXY) is not None:
        reason = f"the pod has a container {names.ISTIO_PROXY}: Istio's sidecar, or its customization"
        return Decision(skipped=reason, warnings=(f"not injected: {reason}",))
    if reason := reason_of_namespace(pod, request):
        return Decision(skipped=reason)
    return _switched(pod, request.config)


def reason_of_namespace(pod: JsonObject, request: InjectionRequest) -> str:
    """Returns why the labels of the namespace do not let this control plane inject the pod, or ""."""
    if request.namespace_labels.get(_NAMESPACE_SWITCH) == "disabled":
        return f"the namespace has the label {_NAMESPACE_SWITCH}=disabled"
    wanted = wanted_revision(request.namespace_labels, labels_of(pod))
    if wanted not in ("", request.revision or names.DEFAULT_REVISION):
        return f"the revision {wanted} injects this pod"
    return ""


def wanted_revision(namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]) -> str:
    """Returns the revision of the control plane that injects a pod, or "" for any. The label of the pod only
    counts where the namespace has neither label."""
    if _NAMESPACE_SWITCH in namespace_labels:
        return names.DEFAULT_REVISION
    return namespace_labels.get(names.REVISION) or pod_labels.get(names.REVISION) or ""


def _forbidden(pod: JsonObject, request: InjectionRequest) -> str:
    if pod["spec"].get("hostNetwork"):
        return "hostNetwork is true: interception would change the network of the node"
    if request.namespace in _SYSTEM_NAMESPACES | {request.config.values.system_namespace}:
        return f"{request.namespace} is a system namespace"
    return ""


def _switched(pod: JsonObject, config: InjectionConfig) -> Decision:
    pod_labels = labels_of(pod)
    given, kind = pod_labels.get(INJECT), "label"
    if given is None:
        given, kind = annotations_of(pod).get(INJECT), "annotation"
    warnings: tuple[str, ...] = ()
    if given == "true":
        return Decision()
    if given == "false":
        return Decision(skipped=f"the {kind} {INJECT} is false")
    if given:
        warnings = (f"{kind} {INJECT}: {given!r:.80} is ignored: it should be true or false",)
    if any(selector.selects(pod_labels) for selector in config.never_inject_selector):
        return Decision(skipped="neverInjectSelector selects the pod", warnings=warnings)
    if any(selector.selects(pod_labels) for selector in config.always_inject_selector):
        return Decision(warnings=warnings)
    if config.policy is Policy.DISABLED:
        return Decision(skipped="the policy is disabled", warnings=warnings)
    return Decision(warnings=warnings)
