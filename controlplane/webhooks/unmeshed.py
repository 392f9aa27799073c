"""Finds the pods that have no sidecar although their labels, or those of their namespace, ask for one: they
were created before the label, or while no webhook was called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controlplane.errors import SettingsError
from controlplane.injection.names import REVISION
from controlplane.injection.selection import INJECT, decide
from controlplane.webhooks.mutate import InjectionInputs

_SWITCH: Final = "istio-injection"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmeshedPod:
    """``asked_by`` is the label that asks for a sidecar."""

    namespace: str
    name: str
    asked_by: str


def unmeshed_pods(inputs: InjectionInputs) -> list[UnmeshedPod]:
    """Sorted by namespace and name. Empty without a valid injection configuration, which decides: pods are
    refused then."""
    try:
        return sorted(_unmeshed(inputs), key=attrgetter("namespace", "name"))
    except SettingsError:
        return []


def _unmeshed(inputs: InjectionInputs) -> Iterator[UnmeshedPod]:
    for (namespace, name), pod in inputs.objects.pods_without_sidecar.items():
        marks = inputs.objects.namespaces.get(namespace)
        if marks is None:  # it was deleted, or is not known yet
            continue
        asked_by = _asked_by(marks.labels, pod["metadata"]["labels"])
        if asked_by and not decide(pod, inputs.request(namespace, marks)).skipped:
            yield UnmeshedPod(namespace=namespace, name=name, asked_by=asked_by)


def _asked_by(namespace_labels: Mapping[str, str], pod_labels: Mapping[str, str]) -> str:
    """The label because of which the API server calls the webhook, or empty."""
    if namespace_labels.get(_SWITCH) == "enabled":
        return f"namespace: {_SWITCH}=enabled"
    if _SWITCH not in namespace_labels and REVISION in namespace_labels:
        return f"namespace: {REVISION}={namespace_labels[REVISION]}"
    if pod_labels.get(INJECT) == "true":
        return f"pod: {INJECT}=true"
    if _SWITCH not in namespace_labels and REVISION in pod_labels:
        return f"pod: {REVISION}={pod_labels[REVISION]}"
    return ""


class UnmeshedPodsMetric(Collector):
    """Counts the pods by namespace when the metrics are read."""

    def __init__(self, find: Callable[[], Iterable[UnmeshedPod]]) -> None:
        self._find: Final = find

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "outrigger_unmeshed_pods",
            "Pods without a sidecar although their labels, or those of their namespace, ask for one.",
            labels=["namespace"],
        )
        for namespace, count in sorted(Counter(pod.namespace for pod in self._find()).items()):
            family.add_metric([namespace], count)
        yield family
