"""The validating webhook: it refuses a resource that would be quarantined as invalid, with the words of its
``.status``, and returns warnings for the others.

The store decides by the same code as for a stored resource. A resource that contradicts another one is
admitted with a warning: it comes in force when the other is removed, whatever the order of the changes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from prometheus_client import CollectorRegistry

from controlplane.kinds.registry import KINDS
from controlplane.kinds.served import read_served
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Fault, Origin, ResourceStatus, State
from controlplane.model.store import Store
from controlplane.resources.kind_registry import unsupported
from controlplane.webhooks.admission import AdmissionRequest, Answer, JsonObject
from controlplane.webhooks.metrics import ValidationMetrics

# The source's name of a cluster: the resource replaces the one that the source has read.
_ORIGIN: Final = "Kubernetes"
# For an object whose name the API server has not generated yet.
_GENERATED_SUFFIX: Final = "00000"


class ResourceValidation:
    """A `Webhook`. ``store`` has the resources of the cluster."""

    def __init__(
        self,
        store: Store,
        *,
        registry: CollectorRegistry,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store: Final = store
        self._metrics: Final = ValidationMetrics(registry)
        self._clock: Final = clock

    def note_error(self, status: int) -> None:
        self._metrics.errors.labels(status=str(status)).inc()

    async def admit(self, request: AdmissionRequest) -> Answer:
        with self._metrics.errors.labels(status="500").count_exceptions():
            answer = self._answer(request)
        labels = _labels(request)
        if answer.allowed:
            self._metrics.passed.labels(*labels).inc()
        else:
            self._metrics.failed.labels(*labels, "invalid_resource").inc()
        return answer

    def _answer(self, request: AdmissionRequest) -> Answer:
        if request.operation not in ("CREATE", "UPDATE") or request.sub_resource:
            return Answer()
        foreign = KINDS.unsupported_kind(request.kind, f"{request.group}/{request.version}")
        if foreign is not None:
            return Answer(warnings=(str(unsupported(foreign)),))
        if not KINDS.supports(request.group, request.kind):
            return Answer()
        status = self._status(request)
        if status.fault is Fault.INVALID:
            if _spec_is_unchanged(request):
                return Answer(warnings=status.reasons)
            return Answer(allowed=False, message="; ".join(status.reasons))
        quarantined = status.state is not State.APPLIED
        conflicts = [f"{reason}; {status.consequence}" for reason in status.reasons] if quarantined else []
        return Answer(warnings=(*conflicts, *status.warnings, *status.unresolved))

    def _status(self, request: AdmissionRequest) -> ResourceStatus:
        document = self._named(request)
        metadata = document["metadata"]
        namespaced = KINDS[request.kind].namespaced
        key = ResourceKey(
            kind=request.kind, namespace=request.namespace if namespaced else "", name=str(metadata["name"])
        )
        origin = Origin(file=_ORIGIN, generation=0, uid=str(metadata.get("uid") or ""))
        return self._store.examine(key, read_served(request.kind, document), origin)

    def _named(self, request: AdmissionRequest) -> JsonObject:
        """The object with the metadata that the API server adds to a new one after its admission: without a
        creation time it would count as the oldest of all."""
        given = request.object.get("metadata")
        metadata = dict(given) if isinstance(given, dict) else {}
        generated = f"{metadata.get('generateName') or ''}{_GENERATED_SUFFIX}"
        metadata["name"] = metadata.get("name") or request.name or generated
        if request.namespace:
            metadata["namespace"] = request.namespace
        if not metadata.get("creationTimestamp"):
            metadata["creationTimestamp"] = self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        return {**request.object, "metadata": metadata}


def _labels(request: AdmissionRequest) -> tuple[str, str, str]:
    """Group, version and resource. A caller that is no API server must not create series without a limit."""
    kind = KINDS.get(request.kind)
    if kind is None or f"{request.group}/{request.version}" not in kind.api_versions:
        return "", "", ""
    return request.group, request.version, kind.plural


def _spec_is_unchanged(request: AdmissionRequest) -> bool:
    """An update of metadata must pass: or else nobody could remove the finalizer of a resource that was
    stored while the webhook was away."""
    return request.operation == "UPDATE" and request.object.get("spec") == request.old_object.get("spec")
