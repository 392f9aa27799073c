"""For any changes of resources, incremental pushes result in the same state as a full push.

A change is pushed for the xDS types that it can affect. If one of them were missing, proxies would keep old
resources.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from controlplane.errors import ResourceError
from controlplane.kinds.registry import KINDS
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy import InterceptionMode
from controlplane.model.store import Store
from controlplane.resources.core import ServicePort
from controlplane.resources.service_entry import ServicePort as EntryPort
from protos import type_urls
from tests.support.documents import Document, document, feed, key_of
from tests.support.following_proxies import FollowingProxies
from tests.support.meshes import grpc_proxy, sidecar_proxy
from tests.support.random_resources import ResourceMaker
from tests.support.xds_differences import at_once, differences

SERVICES = ["s0", "s1", "s2"]
# The last one is visible where no Sidecar limits the view, or where a route refers to it.
HOSTS = [*SERVICES, "s0.other.svc.cluster.local"]
EXTERNAL = ["e0.example.com", "e1.example.com"]
PORTS = [80, 443, 3306]
COUNT = 4  # the number of resources of each kind
SUBSETS = ["v1", "v2"]
VERSIONS = [{"version": "v1"}, {"version": "v2"}]
STEPS = 50

PROXIES = [
    sidecar_proxy("a", id="redirected", workload="w0"),
    sidecar_proxy("b", "v2", id="explicit", interception_mode=InterceptionMode.NONE),
    sidecar_proxy("a", id="elsewhere", namespace="other", workload="w1"),
    sidecar_proxy("client", id="resolving", workload="resolving", captures_dns=True),
    grpc_proxy(id="grpc"),
]


class RandomMesh:
    """Resources that refer to each other, and changes of one of them at a time: a new resource, a changed
    part, changed labels and annotations, or a deletion."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.maker = ResourceMaker(
            seed,
            host=[*HOSTS, *EXTERNAL],
            port=PORTS,
            subset=SUBSETS,
            number=PORTS,
            export_to=["*"],
        )
        self.documents: dict[str, Document] = {}
        for kind in KINDS:
            for number in range(COUNT):
                self._put(kind, number)

    def change(self) -> tuple[Document | None, Document | None]:
        """The old and the new resource; None if it does not exist."""
        kind, number = self._choose(list(KINDS), [1, 1, 5, 5, 1, 2, 3, 3]), self.random.randrange(COUNT)
        before = self.documents.get(f"{kind} {number}")
        match "new" if before is None else self._choose(["new", "gone", "metadata", "part"], [2, 2, 2, 6]):
            case "new":
                return before, self._put(kind, number)
            case "gone":
                return self.documents.pop(f"{kind} {number}"), None
            case "metadata":
                assert before is not None
                value = self.random.choice(["a", "b"])
                metadata = {**before["metadata"], "annotations": {"a": value}, "labels": {"unread": value}}
                changed = {**before, "metadata": metadata}
            case _:
                assert before is not None
                changed = {**before, "spec": self._altered(kind, number, before["spec"])}
        self.documents[f"{kind} {number}"] = changed
        return before, changed

    def _choose(self, values: list[str], weights: list[int]) -> str:
        [chosen] = self.random.choices(values, weights)
        return chosen

    def _altered(self, kind: str, number: int, spec: Document) -> Document:
        """Returns the resource with one field of another one, or a VirtualService with another
        destination."""
        routed = [rule for rule in spec.get("http", ()) if "route" in rule]
        if kind == "VirtualService" and routed and self.random.random() < 0.5:
            to = {"destination": {"host": self.random.choice(HOSTS), "port": {"number": 80}}}
            return {**spec, "http": [{**routed[0], "route": [to]}]}
        other = self._spec(kind, number)
        return {
            **spec,
            **{field: other[field] for field in self.random.sample(sorted(other), k=min(1, len(other)))},
        }

    def _put(self, kind: str, number: int) -> Document:
        name, namespace = f"r{number}", "default"
        if kind == "Service":
            name, namespace = SERVICES[number % 3], "other" if number == 3 else "default"
        if kind == "ServiceEntry" and number >= len(EXTERNAL):
            namespace = "other"  # each host is declared in two namespaces
        made = document(kind, name, self._spec(kind, number), namespace)
        self.documents[f"{kind} {number}"] = made
        return made

    def _spec(self, kind: str, number: int) -> Document:
        """The values of the field with which most resources are in force and visible to each other."""
        maker, choice = self.maker, self.random.choice
        fixed: dict[str, Any] = {}
        match kind:
            case "Service":
                ports = [{**maker.spec(ServicePort), "name": f"p{n}", "port": n} for n in PORTS]
                fixed = {"ports": ports, "selector": choice([{"app": "a"}, {}]), "type": "ClusterIP"}
            case "ServiceEntry":
                ports = [{**maker.spec(EntryPort), "name": f"p{n}", "number": n} for n in PORTS]
                fixed = {"hosts": [EXTERNAL[number % len(EXTERNAL)]], "ports": ports}
                fixed |= {
                    "export_to": [choice(["*", "."])],
                    "resolution": choice(["STATIC", "STATIC", "DNS"]),
                }
                fixed["endpoints"] = [{"address": f"10.1.{number}.{n}"} for n in range(choice([1, 2]))]
            case "VirtualService":
                host = [*HOSTS, *EXTERNAL][number]
                fixed = {"hosts": [host], "gateways": choice([["mesh"], ["mesh"], ["public"]])}
                rules = choice([["http"], ["http"], ["http", "tcp"], ["tls"]])
                fixed |= {name: [] for name in ("http", "tls", "tcp") if name not in rules}
                if "tls" in rules:
                    to = {"destination": {"host": choice(HOSTS), "port": {"number": 80}}}
                    fixed["tls"] = [{"match": [{"sniHosts": [host]}], "route": [to]}]
            case "DestinationRule":
                subsets = [{"name": name, "labels": choice(VERSIONS)} for name in SUBSETS]
                hosts = [HOSTS[number], "*.svc.cluster.local"]
                fixed = {"host": choice(hosts), "subsets": subsets}
                pool = {"connectionPool": {"tcp": {"idleTimeout": choice(["1s", "2s"])}}}
                by_address = {"loadBalancer": {"simple": "PASSTHROUGH"}}
                if policy := choice([pool, by_address, None]):
                    fixed["traffic_policy"] = policy
            case "Sidecar":
                labels = {"labels": {"app": choice(["a", "b"])}}
                egress = [
                    {"hosts": choice([["*/*"], ["./*"], ["other/*"], ["./s0.default.svc.cluster.local"]])}
                ]
                fixed = {"egress": egress, "workload_selector": labels if number else None}
            case "WorkloadEntry":
                labels = {"app": "a", **choice(VERSIONS), "security.istio.io/tlsMode": "istio"}
                fixed = {"address": f"10.0.0.{number}", "labels": labels, "service_account": "a"}
            case "PeerAuthentication":
                modes = [{"mode": mode} for mode in ("STRICT", "DISABLE", "PERMISSIVE")]
                fixed = {"mtls": choice(modes), "selector": {"matchLabels": {"app": choice(["a", "b"])}}}
        return maker.spec(KINDS[kind].spec, **fixed)


def fed(store: Store, before: Document | None, after: Document | None) -> bool:
    """Returns whether the store accepted the resource; an invalid one is no change."""
    if after is None:
        assert before is not None
        store.delete(key_of(before), file_of(before))
        return True
    try:
        feed(store, after, file=file_of(after))
    except ResourceError:
        return False
    return True


def file_of(resource: Document) -> str:
    return str(key_of(resource))


@pytest.mark.parametrize("seed", range(6))
async def test_incremental_pushes_result_in_the_same_state_as_a_full_push(seed: int) -> None:
    mesh, store = RandomMesh(seed), Store(KINDS, MeshConfig(proxy_http_port=15007))
    for each in mesh.documents.values():
        fed(store, None, each)
    following = FollowingProxies()
    for proxy in PROXIES:
        following.connect(proxy)
    narrowed = 0
    try:
        for step in range(STEPS):
            snapshot, change = store.build()
            following.cache.forget_unused(change.whole_types)
            narrowed += bool(change.configs) and len(change.whole_types) < len(type_urls.PUSH_ORDER)
            await following.take(snapshot, change)
            # A copy, so that cached results of the original are not used.
            fresh = copy.deepcopy(snapshot)
            for each in following.proxies:
                wrong = sorted(differences(each.held, at_once(fresh, each.proxy)))
                assert not wrong, (step, str(change), sorted(change.whole_types), each.proxy.id, wrong)
            while not fed(store, *mesh.change()):
                pass
        assert narrowed > STEPS / 6
    finally:
        await following.close()
