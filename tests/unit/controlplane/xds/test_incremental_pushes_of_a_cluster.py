"""Pods, their EndpointSlices and the resources that select them change, several at once. Incremental pushes
result in the same state as a full push. `test_incremental_pushes` covers the fields of all resources."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from controlplane.errors import InvalidResourceError
from controlplane.kinds.registry import KINDS
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import EndpointSlice, Registry, ServiceEndpoint, Workload
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Origin
from controlplane.model.store import Store
from tests.support.documents import Document, document, feed, key_of
from tests.support.following_proxies import FollowingProxies
from tests.support.meshes import grpc_proxy, sidecar_proxy
from tests.support.meshes import workload as pod_workload
from tests.support.xds_differences import at_once, differences

STEPS = 60
SERVICES = ["brokers", "web", "web2"]
OTHER = "brokers.other.svc.cluster.local"
SHARED = "shared.example.com"
PORTS = [("tcp-a", 9092), ("http-b", 80)]

PROXIES = [
    sidecar_proxy("client", id="redirected", workload="client"),
    sidecar_proxy(
        "client",
        id="explicit",
        workload="client",
        interception_mode=InterceptionMode.NONE,
        http_proxy_port=15007,
    ),
    sidecar_proxy("client", id="elsewhere", namespace="other", workload="client"),
    sidecar_proxy("brokers", id="own", workload="brokers-0"),
    sidecar_proxy("client", id="resolving", workload="resolving", captures_dns=True),
    grpc_proxy(id="grpc"),
]


class RandomCluster:
    """The updates of a cluster's sources, one random change at a time."""

    def __init__(self, seed: int, store: Store) -> None:
        self._random = random.Random(seed)
        self._store = store
        self._there: set[ResourceKey] = set()
        self._slices: dict[ResourceKey, dict[tuple[str, str], ServiceEndpoint]] = {}
        self._changes: list[tuple[int, Callable[[], None]]] = [
            (24, self._slice),
            (8, self._workload_entry),
            (1, self._service),
            (1, self._service_entry),
            (3, self._peer_authentication),
            (3, self._destination_rule),
            (3, self._virtual_service),
            (2, self._sidecar),
        ]
        for _, change in self._changes:
            for _ in range(4):
                change()

    def change(self) -> None:
        """Returns one to three of them."""
        weights, changes = zip(*self._changes, strict=True)
        for change in self._random.choices(changes, weights, k=self._random.choice([1, 1, 1, 2, 3])):
            change()

    def _pick(self, *values: Any) -> Any:
        return self._random.choice(values)

    def _tell(self, resource: Document) -> None:
        """Sometimes it is deleted or invalid."""
        key, fate = key_of(resource), self._random.random()
        if fate < 0.2 and key in self._there:
            self._there.discard(key)
            self._store.delete(key, "cluster")
            return
        self._there.add(key)
        if fate > 0.9:
            resource = {**resource, "spec": {**resource["spec"], "nonsense": 1}}
        try:
            self._store.apply(key, KINDS.parse(resource), Origin(file="cluster"))
        except InvalidResourceError as error:
            self._store.reject(key, error.errors, Origin(file="cluster"))

    def _slice(self) -> None:
        """One endpoint changes or, sometimes, is removed."""
        name = self._pick(*SERVICES, "brokers other")
        service, _, namespace = name.partition(" ")
        namespace = namespace or "default"
        slice_name = f"{service}-{self._pick('x', 'x', 'y')}"
        key = ResourceKey(kind="EndpointSlice", namespace=namespace, name=slice_name)
        places = self._slices.setdefault(key, {})
        index, (port, number) = self._random.randint(0, 2), self._pick(*PORTS)
        pod = self._pod(service, namespace, index)
        if self._random.random() < 0.2:
            places.pop((pod.name, port), None)
        else:
            places[pod.name, port] = ServiceEndpoint(
                service_port=port,
                address=pod.address,
                port=self._pick(number, number, number + 1),
                workload=pod,
                hostname=self._pick("", pod.name, pod.name) if service == "brokers" else "",
            )
        host = f"{service}.{namespace}.svc.cluster.local"
        seen = EndpointSlice(hostname=host, endpoints=tuple(places.values()))
        self._store.observe(key, seen if places else None)

    def _pod(self, app: str, namespace: str, index: int) -> Workload:
        return pod_workload(
            app,
            f"10.{SERVICES.index(app)}.{self._pick(0, 0, 0, 9)}.{index + 1}",
            namespace=namespace,
            name=f"{app}-{index}",
            labels={"app": app, "version": self._pick("v1", "v2"), **self._pick({}, {}, {"tls": "no"})},
            service_account=self._pick("a", "a", "a", "a", "b"),
            locality=self._pick("", "", "r/z"),
            mesh_tls=self._pick(True, True, True, True, False),
            healthy=self._pick(True, True, False),
            registry=Registry.KUBERNETES,
        )

    def _workload_entry(self) -> None:
        name = self._pick("vm0", "vm1", "vm2")
        labels = {
            "app": self._pick("web", "vm"),
            "version": self._pick("v1", "v2"),
            "security.istio.io/tlsMode": self._pick("istio", "istio", "istio", "disabled"),
            **self._pick({}, {}, {"tls": "no"}),
        }
        spec = {
            "address": f"10.9.9.{name[-1]}",
            "labels": labels,
            "serviceAccount": self._pick("a", "a", "b"),
            **self._pick({}, {"ports": {"tcp-a": 1234}}, {"ports": {"http-b": 81}}),
        }
        self._tell(document("WorkloadEntry", name, spec, self._pick("default", "default", "other")))

    def _service(self) -> None:
        name = self._pick(*SERVICES, "brokers other")
        service, _, namespace = name.partition(" ")
        ports = [{"name": port, "port": number} for port, number in PORTS]
        spec: Document = {"ports": ports, "selector": {"app": service}}
        if service == "brokers":
            spec["clusterIP"] = self._pick("None", "None", "None", "10.96.0.1")
        metadata = {}
        if self._random.random() < 0.3:
            exported = self._pick("*", ".", "default", "other")
            metadata["annotations"] = {"networking.istio.io/exportTo": exported}
        self._tell(document("Service", service, spec, namespace or "default", **metadata))

    def _service_entry(self) -> None:
        spec = {
            "hosts": [self._pick(SHARED, SHARED, "dns.example.com")],
            "location": "MESH_INTERNAL",
            "resolution": self._pick("STATIC", "STATIC", "DNS", "NONE"),
            "workloadSelector": {"labels": {"app": "vm"}},
            "ports": [
                {"name": port, "number": number, "protocol": port[: port.index("-")].upper()}
                for port, number in self._random.sample(PORTS, k=self._pick(1, 1, 2))
            ],
            "exportTo": self._pick(["*"], ["."], ["*"]),
        }
        name = self._pick("one", "two")
        self._tell(document("ServiceEntry", name, spec, self._pick("default", "default", "other")))

    def _peer_authentication(self) -> None:
        selector: Document = self._pick({}, {"selector": {"matchLabels": {"tls": "no"}}})
        by_port = {"portLevelMtls": {"9092": {"mode": self._pick("DISABLE", "STRICT")}}} if selector else {}
        mode = self._pick("DISABLE", "STRICT", "PERMISSIVE", "UNSET")
        spec = {"mtls": {"mode": mode}, **selector, **self._pick({}, by_port)}
        name = "selected" if selector else "default"
        self._tell(document("PeerAuthentication", name, spec, self._pick("default", "default", "other")))

    def _destination_rule(self) -> None:
        host = self._pick("brokers", "web", "web", SHARED, "*.svc.cluster.local", OTHER)
        spec: Document = {
            "host": host,
            "subsets": [
                {"name": name, "labels": {"version": self._pick("v1", "v2")}} for name in ("one", "two")
            ],
            "exportTo": self._pick(["*"], ["*"], ["."]),
        }
        policy = self._pick(
            None,
            {"loadBalancer": {"simple": "PASSTHROUGH"}},
            {"connectionPool": {"tcp": {"idleTimeout": "1s"}}},
        )
        if policy:
            spec["trafficPolicy"] = policy
        name = host.replace("*", "all")
        self._tell(document("DestinationRule", name, spec, self._pick("default", "default", "other")))

    def _virtual_service(self) -> None:
        host = self._pick("web", "brokers", SHARED)
        target = self._pick("web", "web2", "brokers", OTHER, SHARED, "gone")
        destination = {"host": target, **self._pick({}, {"subset": "one"}, {"port": {"number": 80}})}
        route = [{"destination": destination}]
        other = {"destination": {"host": "web", "port": {"number": 9092}}}
        rules = self._pick(
            {"http": [{"route": route}]}, {"http": [{"route": route}], "tcp": [{"route": [other]}]}
        )
        self._tell(document("VirtualService", host, {"hosts": [host], **rules}))

    def _sidecar(self) -> None:
        hosts = self._pick(["./*"], ["*/*"], ["./brokers.default.svc.cluster.local"], ["other/*"])
        spec: Document = {"egress": [{"hosts": hosts}], **self._pick({}, _REGISTRY_ONLY)}
        if self._random.random() < 0.5:
            spec["workloadSelector"] = {"labels": {"app": "client"}}
        self._tell(document("Sidecar", "default", spec))


_REGISTRY_ONLY: Mapping[str, Any] = {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}


@pytest.mark.parametrize("seed", range(6))
async def test_incremental_pushes_result_in_the_same_state_as_a_full_push(seed: int) -> None:
    store = Store(KINDS, MeshConfig())
    cluster = RandomCluster(seed, store)
    following = FollowingProxies()
    for proxy in PROXIES:
        following.connect(proxy)
    try:
        for step in range(STEPS):
            snapshot, change = store.build()
            following.cache.forget_unused(change.whole_types)
            await following.take(snapshot, change)
            # A copy, so that cached results of the original are not used.
            fresh = copy.deepcopy(snapshot)
            for each in following.proxies:
                wrong = sorted(differences(each.held, at_once(fresh, each.proxy)))
                assert not wrong, (step, str(change), sorted(change.whole_types), each.proxy.id, wrong)
            cluster.change()
    finally:
        await following.close()


async def test_another_import_can_select_another_declaration_of_a_host() -> None:
    """A gRPC client has the same cluster for both, with different endpoints."""

    def entry(namespace: str, export_to: str, address: str) -> Document:
        spec = {
            "hosts": [SHARED],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"name": "http", "number": 80}],
            "endpoints": [{"address": address}],
            "exportTo": [export_to],
        }
        return document("ServiceEntry", "shared", spec, namespace)

    def sidecar(host: str) -> Document:
        return document("Sidecar", "default", {"egress": [{"hosts": [host]}]})

    store, following = Store(KINDS, MeshConfig()), FollowingProxies()
    proxy = following.connect(grpc_proxy())
    try:
        for host in ("./*", "other/*"):
            feed(store, entry("default", ".", "10.0.0.1"), entry("other", "*", "10.0.0.2"), sidecar(host))
            snapshot, change = store.build()
            await following.take(snapshot, change)
            wrong = list(differences(proxy.held, at_once(copy.deepcopy(snapshot), proxy.proxy)))
            assert not wrong, host
    finally:
        await following.close()
