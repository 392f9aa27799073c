"""Istio's ``WorkloadEntry``: a workload outside of Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from controlplane.kinds.kind import Kind, Traces, Viewers
from controlplane.model.kind import Account
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy import ProxyProgress
from controlplane.model.service import Workload
from controlplane.model.snapshot import ResourceKey
from controlplane.resources.ip_addresses import is_ip_address
from controlplane.resources.kind import ISTIO_NETWORKING
from controlplane.resources.metadata import Metadata
from controlplane.resources.workload_entry import WorkloadEntry
from protos.node import TLS_MODE_LABEL


def workload_of(name: str, namespace: str, spec: WorkloadEntry, labels: Mapping[str, str]) -> Workload:
    """Istio reads a workload's labels from the spec and from the metadata; the spec's win."""
    labels = {**labels, **spec.labels}
    return Workload(
        name=name,
        namespace=namespace,
        address=spec.address,
        labels=labels,
        ports=spec.ports,
        service_account=spec.service_account,
        locality=spec.locality,
        weight=spec.weight or 1,
        mesh_tls=labels.get(TLS_MODE_LABEL) == "istio",
    )


def _view(_: ResourceKey, metadata: Metadata, spec: WorkloadEntry, __: MeshConfig) -> Workload:
    return workload_of(metadata.name, metadata.namespace, spec, metadata.labels)


def _warnings(spec: WorkloadEntry) -> Iterator[str]:
    if not is_ip_address(spec.address):
        yield f"spec.address: {spec.address} is a host name, which only services with resolution DNS can use"
    if spec.network:
        yield "spec.network: is ignored: every workload is assumed to reach every other"


def _service_account(workload: Workload) -> Account | None:
    return (workload.namespace, workload.service_account) if workload.service_account else None


def _affected(workload: Workload, viewers: Viewers) -> Sequence[ProxyProgress]:
    """The proxies that see one of the services that the workload is an endpoint of."""
    return viewers.all_if(
        any(hostname in viewers.scope.destinations for hostname in _hostnames(workload, viewers))
    )


def _traces(workload: Workload, viewers: Viewers) -> Traces:
    return Traces(types=frozenset({"cds", "eds"}), hosts=_hostnames(workload, viewers))


def _hostnames(workload: Workload, viewers: Viewers) -> Sequence[str]:
    return sorted(viewers.hostnames_by_workload.get(id(workload), ()))


WORKLOAD_ENTRY: Final[Kind[WorkloadEntry, Workload]] = Kind(
    name="WorkloadEntry",
    spec=WorkloadEntry,
    api_versions=ISTIO_NETWORKING,
    plural="workloadentries",
    short_names=("we",),
    columns={"Address": ".spec.address"},
    view=_view,
    warnings=_warnings,
    service_account=_service_account,
    # Only endpoints contain a workload, and their changes are computed separately.
    touches=frozenset(),
    affected=_affected,
    traces=_traces,
)
