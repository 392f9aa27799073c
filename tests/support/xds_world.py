"""A mesh of a few lines for tests of the xDS server: resources by name, whose content a test can change."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf.message import Message

from controlplane.model.proxy import Proxy
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from protos import type_urls
from protos.nds_pb2 import NameTable

FULL = SnapshotChange(full=True)

MESSAGE_TYPES: dict[str, type[Message]] = {
    type_urls.CLUSTER: Cluster,
    type_urls.ENDPOINT: ClusterLoadAssignment,
    type_urls.LISTENER: Listener,
    type_urls.ROUTE: RouteConfiguration,
    type_urls.NAME_TABLE: NameTable,
}


def name_of(message: Message) -> str:
    if isinstance(message, NameTable):
        return type_urls.NAME_TABLE_NAME
    return message.cluster_name if isinstance(message, ClusterLoadAssignment) else message.name


def cluster(name: str, content: int = 0, *, eds: bool = True) -> Cluster:
    message = Cluster(name=name, type=Cluster.EDS if eds else Cluster.ORIGINAL_DST)
    message.connect_timeout.seconds = content
    return message


def endpoints(name: str, content: int = 0) -> ClusterLoadAssignment:
    message = ClusterLoadAssignment(cluster_name=name)
    message.endpoints.add().priority = content
    return message


def listener(name: str, content: int = 0) -> Listener:
    return Listener(name=name, stat_prefix=str(content))


def route(name: str, content: int = 0) -> RouteConfiguration:
    return RouteConfiguration(name=name, internal_only_headers=[str(content)])


def name_table(*ips: str) -> NameTable:
    return NameTable(table={"a.example.com": NameTable.NameInfo(ips=ips)})


class FakeGenerator:
    """Serves the resources of the test. ``built`` records the requested ones."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Message]] = {type_url: {} for type_url in type_urls.PUSH_ORDER}
        self.built: list[tuple[str, Collection[str] | None]] = []
        self.broken: set[str] = set()
        self.dialling: set[str] = (
            set()
        )  # the namespaces whose proxies are sent addresses of headless services

    def put(self, *messages: Message) -> None:
        for message in messages:
            type_url = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
            self.resources[type_url][name_of(message)] = message

    def remove(self, type_url: str, name: str) -> None:
        del self.resources[type_url][name]

    def build(
        self, type_url: str, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None
    ) -> Mapping[str, Message]:
        self.built.append((type_url, names))
        if type_url in self.broken:
            raise RuntimeError(f"the test broke {type_url}")
        resources = self.resources[type_url]
        return {name: message for name, message in resources.items() if names is None or name in names}

    def dials(self, snapshot: MeshSnapshot, proxy: Proxy, hostnames: Set[str]) -> bool:
        return proxy.workload in self.dialling

    def endpoints_hostname(self, name: str) -> str:
        return name.rsplit("|", 1)[-1]
