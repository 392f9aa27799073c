"""A sidecar understands all that a real istiod sends for `resources.yaml`, in each mode of interception."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.any_pb2 import Any as PackedAny

from protos import type_urls
from sidecar.config.cluster import ClusterConfig
from sidecar.config.route import RouteConfiguration
from sidecar.config.tls import AutoNames
from sidecar.errors import ConfigError
from sidecar.xds.decode import decode_resource
from tests.support.ads_client import SotwClient
from tests.support.istiod_mesh import IstiodMesh

NAMESPACE = "kinds"
# Pods of no node: only their objects exist. The Sidecar resource selects the second one.
PODS = {
    "app": ("10.77.0.1", {"app": "app", "version": "v1"}),
    "limited": ("10.77.0.2", {"app": "app", "egress": "limited"}),
}
PLAINTEXT_PORT = 15010
DEADLINE_S = 30.0

Sent = dict[str, list[PackedAny]]  # by the type


@pytest.fixture(scope="module")
def address(istiod: IstiodMesh) -> str:
    """That of istiod, which has the resources, and an address for each pod."""
    istiod.apply(*yaml.safe_load_all((Path(__file__).parent / "resources.yaml").read_text()))
    for name, (ip, labels) in PODS.items():
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
        container = {"name": "app", "image": "app"}
        spec = {"nodeName": "nowhere", "containers": [container]}
        istiod.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        ready = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready}
        patch = json.dumps({"status": status})
        istiod.kubectl("patch", "pod", name, f"-n{NAMESPACE}", "--subresource=status", f"--patch={patch}")
    return f"{istiod.istiod_address()}:{PLAINTEXT_PORT}"


@pytest.mark.parametrize("mode", ["REDIRECT", "TPROXY", "NONE"])
@pytest.mark.parametrize("pod", PODS)
async def test_every_resource_is_understood(address: str, pod: str, mode: str) -> None:
    sent = await followed(address, node(pod, mode), with_inbound=mode != "NONE")
    refused = [
        f"{type_url.rpartition('.')[2]} {error}"
        for type_url, resources in sent.items()
        for resource in resources
        if (error := refusal(type_url, resource))
    ]
    assert not refused
    assert all(sent.values())


async def test_the_name_of_a_host_outside_comes_from_the_request(address: str) -> None:
    sent = await followed(address, node("app", "REDIRECT"), with_inbound=True)
    clusters = [decode_resource(type_urls.CLUSTER, each.value) for each in sent[type_urls.CLUSTER]]
    by_name = {cluster.name: cluster for cluster in clusters if isinstance(cluster, ClusterConfig)}
    assert by_name["outbound|8001||turn.example.com"].auto_names == AutoNames(sni=True, san=True)


async def test_routes_name_their_operation(address: str) -> None:
    sent = await followed(address, node("app", "REDIRECT"), with_inbound=True)
    tables = [decode_resource(type_urls.ROUTE, each.value) for each in sent[type_urls.ROUTE]]
    routes = [
        route
        for table in tables
        if isinstance(table, RouteConfiguration)
        for host in table.virtual_hosts
        for route in host.routes
    ]
    operations = {route.decorator.operation for route in routes if route.decorator is not None}
    assert f"app.{NAMESPACE}.svc.cluster.local:80/*" in operations, operations


def node(pod: str, mode: str) -> Node:
    ip, labels = PODS[pod]
    found = Node(id=f"sidecar~{ip}~{pod}.{NAMESPACE}~{NAMESPACE}.svc.cluster.local", cluster=pod)
    found.metadata.update(
        {
            "NAMESPACE": NAMESPACE,
            "SERVICE_ACCOUNT": "default",
            "WORKLOAD_NAME": pod,
            "CLUSTER_ID": "Kubernetes",
            "INTERCEPTION_MODE": mode,
            "LABELS": labels,
        }
    )
    return found


async def followed(address: str, node: Node, *, with_inbound: bool) -> Sent:
    """What istiod sends when it has read everything."""
    end_s = time.monotonic() + DEADLINE_S
    while True:
        sent = await follow(address, node)
        names = [Cluster.FromString(each.value).name for each in sent[type_urls.CLUSTER]]
        inbound = any(name.startswith("inbound|") for name in names)
        if "outbound|8001||turn.example.com" in names and inbound >= with_inbound:
            return sent
        assert time.monotonic() < end_s, names
        await asyncio.sleep(0.2)


async def follow(address: str, node: Node) -> Sent:
    async with grpc.aio.insecure_channel(address) as channel, SotwClient(channel, node) as client:

        async def ask(type_url: str, names: Iterable[str] = ()) -> list[PackedAny]:
            await client.subscribe(type_url, *names)
            response = await client.receive(type_url)
            await client.acknowledge(response)
            return list(response.resources)

        sent = {type_urls.CLUSTER: await ask(type_urls.CLUSTER)}
        clusters = [Cluster.FromString(each.value) for each in sent[type_urls.CLUSTER]]
        by_eds = [each.eds_cluster_config.service_name for each in clusters if each.type == Cluster.EDS]
        sent[type_urls.ENDPOINT] = await ask(type_urls.ENDPOINT, by_eds)
        sent[type_urls.LISTENER] = await ask(type_urls.LISTENER)
        sent[type_urls.ROUTE] = await ask(type_urls.ROUTE, route_names(sent[type_urls.LISTENER]))
        return sent


def route_names(listeners: Iterable[PackedAny]) -> set[str]:
    names = set()
    for packed in listeners:
        listener = Listener.FromString(packed.value)
        for chain in (*listener.filter_chains, listener.default_filter_chain):
            for network_filter in chain.filters:
                manager = HttpConnectionManager()
                if network_filter.typed_config.Unpack(manager) and manager.rds.route_config_name:
                    names.add(manager.rds.route_config_name)
    return names


def refusal(type_url: str, resource: Any) -> str:
    try:
        decode_resource(type_url, resource.value)
    except ConfigError as error:
        return str(error)
    return ""
