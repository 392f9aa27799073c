"""The mutating webhook: it adds a sidecar to a new pod. The decision and the changes are `inject`'s; a pod is
refused when they cannot be made, so that no pod starts without its sidecar by accident."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from controlplane.errors import InjectionError, KubernetesError, SettingsError
from controlplane.injection.injector import inject
from controlplane.injection.json_patch import json_patch
from controlplane.injection.request import Injection, InjectionRequest
from controlplane.injection.selection import reason_of_namespace
from controlplane.kubernetes.api import Document
from controlplane.model.mesh_config import MeshConfig
from controlplane.webhooks.admission import AdmissionRequest, Answer, JsonObject
from controlplane.webhooks.cluster_objects import ClusterObjects, NamespaceMarks, read_namespace
from controlplane.webhooks.injection_config import InjectionConfigFile
from controlplane.webhooks.metrics import InjectionMetrics

_NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # a label of DNS (RFC 1123)


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionInputs:
    """The inputs of an injection that do not come with the pod."""

    config_file: InjectionConfigFile
    mesh: MeshConfig
    revision: str
    objects: ClusterObjects

    def request(self, namespace: str, marks: NamespaceMarks) -> InjectionRequest:
        """Raises `SettingsError` if there is no valid injection configuration."""
        return InjectionRequest(
            namespace=namespace,
            namespace_labels=marks.labels,
            namespace_annotations=marks.annotations,
            config=self.config_file.config,
            mesh_config=self.mesh,
            native_sidecars=self.objects.native_sidecars,
            revision=self.revision,
        )


class PodInjection:
    """A `Webhook`. ``get`` reads an object from the API server."""

    def __init__(
        self,
        inputs: InjectionInputs,
        get: Callable[[str], Awaitable[Document]],
        *,
        registry: CollectorRegistry,
    ) -> None:
        self._inputs: Final = inputs
        self._get: Final = get
        self._metrics: Final = InjectionMetrics(registry)

    def note_error(self, _: int) -> None:
        self._metrics.requests.inc()
        self._metrics.failures.inc()

    async def admit(self, request: AdmissionRequest) -> Answer:
        self._metrics.requests.inc()
        with self._metrics.time_s.time(), self._metrics.failures.count_exceptions():
            answer = await self._answer(request)
        if not answer.allowed:
            self._metrics.failures.inc()
        elif answer.patch:
            self._metrics.successes.inc()
        else:
            self._metrics.skips.inc()
        return answer

    async def _answer(self, request: AdmissionRequest) -> Answer:
        if (request.operation, request.group, request.kind, request.sub_resource) != (
            "CREATE",
            "",
            "Pod",
            "",
        ):
            return Answer()
        pod = _without_managed_fields(request.object)
        try:
            injection = await self._inject(pod, request.namespace)
        except InjectionError as error:
            return Answer(allowed=False, message=str(error))
        except (KubernetesError, SettingsError) as error:
            return Answer(allowed=False, code=500, message=f"the sidecar cannot be injected: {error}")
        if not injection.injected:
            return Answer(warnings=injection.warnings)
        return Answer(warnings=injection.warnings, patch=json_patch(pod, injection.pod))

    async def _inject(self, pod: JsonObject, namespace: str) -> Injection:
        """A pod can be created before the watch has reported its namespace, or its labels that ask for a
        sidecar."""
        known = self._inputs.objects.namespaces.get(namespace)
        if known is not None:
            request = self._inputs.request(namespace, known)
            injection = inject(pod, request)
            if injection.injected or not reason_of_namespace(pod, request):
                return injection
        return inject(pod, self._inputs.request(namespace, await self._marks(namespace)))

    async def _marks(self, namespace: str) -> NamespaceMarks:
        if not _NAMESPACE.fullmatch(namespace):  # the caller may not be an API server
            raise InjectionError(f"namespace {namespace!r:.80}: is not the name of a namespace")
        return read_namespace(await self._get(f"/api/v1/namespaces/{namespace}"))


def _without_managed_fields(pod: JsonObject) -> JsonObject:
    """They describe the object that the client sent, and can be larger than the rest of it."""
    metadata = pod.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return pod
    kept = {name: value for name, value in metadata.items() if name != "managedFields"}
    return {**pod, "metadata": kept}
