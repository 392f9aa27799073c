"""The endpoints of each service, kept up to date change by change, for a mesh of any size.

Both directions are indexed by label: a workload finds the services that may select it by one label of their
selector, and a service finds the workloads that it may select by its rarest label. The other labels are then
compared.

A Kubernetes Service does not select pods here: EndpointSlices contain its endpoints, their ports and their
readiness. It selects WorkloadEntries, which the cluster does not know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter, itemgetter
from typing import TypeVar

from controlplane.model.service import (
    EndpointSlice,
    Registry,
    Resolution,
    Service,
    ServiceEndpoint,
    ServicePort,
    Workload,
)
from controlplane.model.view import DeclaredService

GroupT = TypeVar("GroupT", bound=Hashable)
KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

_Label = tuple[str, str, str]  # namespace, label, value
_WorkloadKey = tuple[str, str, str]  # namespace, name, registry: a pod may have a WorkloadEntry's name
_SliceKey = tuple[str, str]  # namespace, name
_ServiceKey = tuple[str, str]  # hostname, declaration


class EndpointIndex:
    """``endpoints`` by hostname, after the last `refresh`: a mapping that is replaced, never changed."""

    def __init__(self) -> None:
        self.endpoints: Mapping[str, tuple[ServiceEndpoint, ...]] = {}
        self._workloads: dict[_WorkloadKey, Workload] = {}
        self._in_order = True
        self._workloads_by_label: dict[_Label, dict[_WorkloadKey, Workload]] = defaultdict(dict)
        self._services: dict[str, dict[str, DeclaredService]] = defaultdict(dict)  # by hostname, declaration
        self._services_by_label: dict[_Label, dict[_ServiceKey, Service]] = defaultdict(dict)
        self._hostname_by_slice: dict[_SliceKey, str] = {}
        self._slices: dict[str, dict[_SliceKey, EndpointSlice]] = defaultdict(dict)  # by hostname
        self._stale: set[str] = set()

    def add_workload(self, workload: Workload) -> None:
        """Adds a workload, or replaces the one of its name and registry."""
        key = _workload_key(workload)
        before = self._workloads.get(key)
        if before is not None:
            self._unlabel(before)
        self._in_order = self._in_order and before is not None
        self._workloads[key] = workload
        for label in _labels(workload):
            self._workloads_by_label[label][key] = workload
        self._stale.update(self._selectors_of(workload))

    def remove_workload(self, namespace: str, name: str, registry: Registry = Registry.EXTERNAL) -> None:
        workload = self._workloads.pop((namespace, name, registry.value), None)
        if workload is not None:
            self._unlabel(workload)

    def add_service(self, declared: DeclaredService) -> None:
        """Adds a service, or replaces the declaration of its host name."""
        service = declared.service
        self.remove_service(service.hostname, service.declaration)
        self._services[service.hostname][service.declaration] = declared
        if service.selector:
            key = service.hostname, service.declaration
            self._services_by_label[_anchor(service)][key] = service
        self._stale.add(service.hostname)

    def remove_service(self, hostname: str, declaration: str = "") -> None:
        declared = self._services.get(hostname, {}).get(declaration)
        if declared is not None:
            _discard(self._services, hostname, declaration)
            if declared.service.selector:
                _discard(self._services_by_label, _anchor(declared.service), (hostname, declaration))
            self._stale.add(hostname)

    def add_slice(self, namespace: str, name: str, endpoint_slice: EndpointSlice) -> None:
        """Adds a slice, or replaces the one of its name. Its service may come later, or never."""
        self.remove_slice(namespace, name)
        hostname = self._hostname_by_slice[namespace, name] = endpoint_slice.hostname
        self._slices[hostname][namespace, name] = endpoint_slice
        self._stale.add(hostname)

    def remove_slice(self, namespace: str, name: str) -> None:
        hostname = self._hostname_by_slice.pop((namespace, name), None)
        if hostname is not None:
            _discard(self._slices, hostname, (namespace, name))
            self._stale.add(hostname)

    def workloads(self) -> tuple[Workload, ...]:
        """All workloads: first those declared by themselves, by name, then those that services declare."""
        if not self._in_order:
            self._workloads = dict(sorted(self._workloads.items()))
            self._in_order = True
        declared = (each for hostname in sorted(self._services) for each in self._declared(hostname))
        inline = (workload for service in declared for workload in service.endpoints)
        return (*self._workloads.values(), *inline)

    def refresh(self) -> frozenset[str]:
        """Brings ``endpoints`` up to date. Returns the host names of the services whose endpoints changed."""
        changes: dict[str, tuple[ServiceEndpoint, ...]] = {}
        for hostname in self._stale:
            declared = self._declared(hostname)
            endpoints = tuple(chain.from_iterable(map(self._endpoints_of, declared)))
            if endpoints != self.endpoints.get(hostname, ()):
                changes[hostname] = endpoints
        self._stale.clear()
        if changes:
            merged = {**self.endpoints, **changes}
            self.endpoints = {hostname: endpoints for hostname, endpoints in merged.items() if endpoints}
        return frozenset(changes)

    def _declared(self, hostname: str) -> list[DeclaredService]:
        declared = self._services.get(hostname, {})
        return [declared[name] for name in sorted(declared)]

    def _unlabel(self, workload: Workload) -> None:
        for label in _labels(workload):
            _discard(self._workloads_by_label, label, _workload_key(workload))
        self._stale.update(self._selectors_of(workload))

    def _selectors_of(self, workload: Workload) -> Iterator[str]:
        """The services that select a workload."""
        for label in _labels(workload):
            for service in self._services_by_label.get(label, {}).values():
                if _selects(service, workload):
                    yield service.hostname

    def _endpoints_of(self, declared: DeclaredService) -> Iterator[ServiceEndpoint]:
        service = declared.service
        if service.resolution is Resolution.NONE:
            return
        selected = sorted(self._selected_by(service), key=attrgetter("name"))
        for workload in (*declared.endpoints, *selected):
            for port in service.ports:
                number = _workload_port(workload, port)
                if number is not None:
                    yield ServiceEndpoint(
                        service_port=port.name,
                        address=workload.address,
                        port=number,
                        workload=workload,
                        declaration=service.declaration,
                    )
        # An ExternalName has no endpoints; slices may be left over from an earlier type of the Service.
        if service.registry is Registry.KUBERNETES and not service.external_name:
            yield from self._in_slices(service.hostname)

    def _in_slices(self, hostname: str) -> Iterable[ServiceEndpoint]:
        """Yields each endpoint once. An endpoint that moves to another slice may be in both for a while, and
        it is unknown which slice is newer: it counts as ready if it is ready in one of them."""
        slices = sorted(self._slices.get(hostname, {}).items(), key=itemgetter(0))
        found: dict[tuple[str, str, int], ServiceEndpoint] = {}
        for endpoint in (endpoint for _, each in slices for endpoint in each.endpoints):
            place = (endpoint.service_port, endpoint.address, endpoint.port)
            if place not in found or endpoint.workload.healthy:
                found[place] = endpoint
        return found.values()

    def _selected_by(self, service: Service) -> Iterable[Workload]:
        if not service.selector:
            return ()
        candidates = min(
            (
                self._workloads_by_label.get((service.namespace, *label), {})
                for label in service.selector.items()
            ),
            key=len,
        )
        return (workload for workload in candidates.values() if _selects(service, workload))


def _workload_key(workload: Workload) -> _WorkloadKey:
    return workload.namespace, workload.name, workload.registry.value


def _labels(workload: Workload) -> Iterator[_Label]:
    return ((workload.namespace, *label) for label in workload.labels.items())


def _anchor(service: Service) -> _Label:
    """The label of a selector by which the service is indexed."""
    return (service.namespace, *min(service.selector.items()))


def _selects(service: Service, workload: Workload) -> bool:
    if service.registry is workload.registry is Registry.KUBERNETES:
        return False
    return service.selector.items() <= workload.labels.items()


def _workload_port(workload: Workload, port: ServicePort) -> int | None:
    """Istio's rule: the workload's own number for the name of the service's port, or else the target port. If
    the target port is a name, the workload defines its number."""
    number = workload.ports.get(port.name)
    if number is not None:
        return number
    if isinstance(port.target_port, str):
        return workload.ports.get(port.target_port)
    return port.target_port


def _discard(index: dict[GroupT, dict[KeyT, ValueT]], group: GroupT, key: KeyT) -> None:
    """Removes an entry, and its group when it is empty, so that the index does not grow."""
    entries = index[group]
    del entries[key]
    if not entries:
        del index[group]
