"""A thousand services of ten endpoints each: as a snapshot, as a folder of files, and as an ADS client
follows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import grpc
from prometheus_client import CollectorRegistry

from controlplane.model.mesh_config import MeshConfig
from controlplane.model.service import Protocol, Registry, Service, ServiceEndpoint, ServicePort, Workload
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.networking.build_cache import BuildCache
from controlplane.xds.generator import MeshGenerator
from controlplane.xds.server import SERVER_OPTIONS, XdsServer
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.support.ads_client import DeltaClient
from tests.support.mesh_folder import MeshFolder
from tests.support.xds_exchange import names_in
from tests.support.xds_world import FULL

SERVICES = 1000
ENDPOINTS = 10


def hostname(number: int) -> str:
    return f"s{number}.default.svc.cluster.local"


def cluster_name(number: int) -> str:
    return f"outbound|9080||{hostname(number)}"


def service(number: int) -> Service:
    return Service(
        hostname=hostname(number),
        name=f"s{number}",
        namespace="default",
        registry=Registry.KUBERNETES,
        addresses=(f"10.96.{number // 250}.{number % 250 + 1}",),
        ports=(ServicePort(name="http", number=9080, protocol=Protocol.HTTP, target_port=9080),),
    )


def endpoint(number: int, replica: int) -> ServiceEndpoint:
    address = f"10.{replica}.{number // 250}.{number % 250 + 1}"
    workload = Workload(name=f"s{number}-{replica}", namespace="default", address=address, mesh_tls=True)
    return ServiceEndpoint(service_port="http", address=address, port=9080, workload=workload)


def large_snapshot() -> MeshSnapshot:
    return MeshSnapshot(
        generation=1,
        mesh_config=MeshConfig(proxy_http_port=15007),
        services={hostname(number): service(number) for number in range(SERVICES)},
        endpoints={
            hostname(number): tuple(endpoint(number, replica) for replica in range(ENDPOINTS))
            for number in range(SERVICES)
        },
    )


def with_one_more_endpoint(mesh: MeshSnapshot, number: int) -> tuple[MeshSnapshot, SnapshotChange]:
    name = hostname(number)
    endpoints = {**mesh.endpoints, name: (*mesh.endpoints[name], endpoint(0, ENDPOINTS))}
    change = SnapshotChange(full=False, endpoints=frozenset({name}))
    return replace(mesh, generation=mesh.generation + 1, endpoints=endpoints), change


_SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: s{number}, namespace: default}}
spec: {{selector: {{app: s{number}}}, ports: [{{name: http, port: 9080}}]}}
"""
_WORKLOAD = """\
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: s{number}-{replica}, namespace: default}}
spec:
  address: 10.{replica}.{high}.{low}
  labels: {{app: s{number}, security.istio.io/tlsMode: istio}}
  serviceAccount: s{number}
"""


def workload_text(number: int, replica: int) -> str:
    """A WorkloadEntry: one endpoint of a service, as YAML."""
    return _WORKLOAD.format(number=number, replica=replica, high=number // 256, low=number % 256)


def write_large_mesh(folder: MeshFolder) -> None:
    """One file for each service."""
    for number in range(SERVICES):
        replicas = "".join(workload_text(number, replica) for replica in range(ENDPOINTS))
        folder.write_text(f"s{number}", _SERVICE.format(number=number) + replicas)


@dataclass
class Serving:
    """A server of the large mesh, and its address."""

    xds: XdsServer
    snapshot: MeshSnapshot
    target: str


@asynccontextmanager
async def serving() -> AsyncIterator[Serving]:
    xds = XdsServer(MeshGenerator(BuildCache()), registry=CollectorRegistry())
    server = grpc.aio.server(options=SERVER_OPTIONS)
    xds.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    snapshot = large_snapshot()
    xds.set_snapshot(snapshot, FULL)
    yield Serving(xds, snapshot, f"127.0.0.1:{port}")
    await xds.close()
    await server.stop(None)


async def follow_everything(client: DeltaClient) -> int:
    """Subscribes as a sidecar does: to everything, by the names that it learns on the way. Returns the number
    of responses."""
    responses = 0
    await client.subscribe(CLUSTER)
    clusters: set[str] = set()
    while sum(name.startswith("outbound|") for name in clusters) < SERVICES:
        clusters |= names_in(await client.accept(CLUSTER))
        responses += 1
    await client.subscribe(ENDPOINT, *(name for name in clusters if name.startswith("outbound|")))
    assignments: set[str] = set()
    while len(assignments) < SERVICES:
        assignments |= names_in(await client.accept(ENDPOINT))
        responses += 1
    await client.subscribe(LISTENER)
    await client.accept(LISTENER)
    await client.subscribe(ROUTE, "http_proxy")
    await client.accept(ROUTE)
    return responses + 2
