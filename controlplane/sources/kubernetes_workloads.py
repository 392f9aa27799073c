"""Joins Pods, Nodes and EndpointSlices into workloads and endpoints for the store.

A Pod becomes a workload with its labels, its service account, whether it has a sidecar, and the locality of
its Node. EndpointSlices determine which workloads are endpoints of a Service, on which port, and whether they
are ready: the cluster's controllers have already evaluated selectors, readiness gates,
``publishNotReadyAddresses`` and Services without a selector. The readiness of a pod that a ServiceEntry
selects is the pod's own condition.

The three kinds are watched separately, so their events arrive in any order. An endpoint is omitted until its
pod is known: only the pod tells whether to use TLS and which identity to expect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from controlplane.kubernetes.list_watch import Changes, ObjectName, name_of
from controlplane.model.hosts import service_hostname
from controlplane.model.service import EndpointSlice, ServiceEndpoint, Workload
from controlplane.model.snapshot import ResourceKey
from controlplane.model.store import Store
from controlplane.sources.kubernetes_objects import (
    Slice,
    SliceEndpoint,
    read_locality,
    read_pod,
    read_slice,
)

GroupT = TypeVar("GroupT", str, ObjectName)


class WorkloadJoin:
    """Updates a store. After a change, only the workloads and endpoints that depend on it are computed
    again."""

    def __init__(self, store: Store, dns_domain: str) -> None:
        self._store = store
        self._dns_domain = dns_domain
        self._localities: dict[str, str] = {}  # by node
        self._pods: dict[ObjectName, Workload] = {}  # without localities
        self._workloads: dict[ObjectName, Workload] = {}  # the pods with the localities of their nodes
        self._slices: dict[ObjectName, Slice] = {}
        self._pods_on: dict[str, set[ObjectName]] = defaultdict(set)
        self._slices_with: dict[ObjectName, set[ObjectName]] = defaultdict(set)  # by pod, or node

    def take_nodes(self, changes: Changes) -> None:
        localities = {name_of(node): read_locality(node) for node in changes.present}
        pods: set[ObjectName] = set()
        slices: set[ObjectName] = set()
        for name in (*localities, *changes.gone):
            _, node = name
            locality = localities.get(name, "")
            if locality != self._localities.pop(node, ""):
                pods |= self._pods_on.get(node, set())
                slices |= self._slices_with.get(name, set())
            if locality:
                self._localities[node] = locality
        self._tell_slices(slices)
        self._tell_pods(pods)

    def take_pods(self, changes: Changes) -> None:
        read = {name_of(pod): read_pod(pod) for pod in changes.present}
        changed = [name for name in {*read, *changes.gone} if read.get(name) != self._pods.get(name)]
        for name in changed:
            before, after = self._pods.pop(name, None), read.get(name)
            if before is not None:
                _discard(self._pods_on, before.node, name)
            if after is not None:
                self._pods[name] = after
                self._pods_on[after.node].add(name)
        self._tell_pods(changed)

    def take_slices(self, changes: Changes) -> None:
        read = {name_of(each): read_slice(each) for each in changes.present}
        changed = [name for name in {*read, *changes.gone} if read.get(name) != self._slices.get(name)]
        for name in changed:
            before, after = self._slices.pop(name, None), read.get(name)
            for needed in _needs(before):
                _discard(self._slices_with, needed, name)
            if after is not None:
                self._slices[name] = after
            for needed in _needs(after):
                self._slices_with[needed].add(name)
        self._tell_slices(changed)

    def _tell_pods(self, names: Iterable[ObjectName]) -> None:
        slices: set[ObjectName] = set()
        for name in names:
            workload = self._locate(name)
            self._store.observe(_key("Pod", name), workload)
            slices |= self._slices_with.get(name, set())
        self._tell_slices(slices)

    def _locate(self, name: ObjectName) -> Workload | None:
        self._workloads.pop(name, None)
        pod = self._pods.get(name)
        if pod is None:
            return None
        locality = self._localities.get(pod.node, "")
        workload = self._workloads[name] = replace(pod, locality=locality)
        return workload

    def _tell_slices(self, names: Iterable[ObjectName]) -> None:
        for name in names:
            found = self._slices.get(name)
            self._store.observe(_key("EndpointSlice", name), self._joined(found) if found else None)

    def _joined(self, found: Slice) -> EndpointSlice:
        return EndpointSlice(
            hostname=service_hostname(found.service, found.namespace, self._dns_domain),
            endpoints=tuple(
                ServiceEndpoint(
                    service_port=port,
                    address=workload.address,
                    port=number,
                    workload=workload,
                    hostname=endpoint.hostname,
                )
                for endpoint in found.endpoints
                for workload in self._workloads_at(found, endpoint)
                for port, number in found.ports.items()
            ),
        )

    def _workloads_at(self, found: Slice, endpoint: SliceEndpoint) -> Iterator[Workload]:
        """Yields the workload of an endpoint. Kubernetes treats the addresses of an endpoint as equivalent;
        the first one is used."""
        address, *_ = endpoint.addresses
        if endpoint.pod is None:
            yield Workload(
                name=f"{found.service}-{address}",
                namespace=found.namespace,
                address=address,
                locality=self._localities.get(endpoint.node, ""),
                healthy=endpoint.ready,
            )
            return
        pod = self._pods.get(endpoint.pod)
        # Otherwise the pod was deleted, is not known yet, or has no address.
        if pod is not None and pod.address and endpoint.uid in ("", pod.uid):
            workload = self._workloads[endpoint.pod]
            as_seen = (workload.address, workload.healthy) == (address, endpoint.ready)
            yield workload if as_seen else replace(workload, address=address, healthy=endpoint.ready)


def _key(kind: str, name: ObjectName) -> ResourceKey:
    namespace, own_name = name
    return ResourceKey(kind=kind, namespace=namespace, name=own_name)


def _needs(found: Slice | None) -> set[ObjectName]:
    """Returns the pods of a slice, and the nodes of its endpoints that are not pods."""
    endpoints = found.endpoints if found else ()
    return {endpoint.pod or ("", endpoint.node) for endpoint in endpoints}


def _discard(index: dict[GroupT, set[ObjectName]], group: GroupT, name: ObjectName) -> None:
    """Removes a name from a group, and the group when it is empty, so that the index does not grow."""
    index[group].discard(name)
    if not index[group]:
        del index[group]
