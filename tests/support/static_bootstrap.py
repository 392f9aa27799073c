"""Resources that come over xDS, put in an Envoy bootstrap file instead: what it refuses, Envoy would NACK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap, RuntimeLayer
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from google.protobuf.json_format import MessageToJson

from protos.envoy_runtime import LARGEST_REGEX, REGEX_SIZE_KEY
from protos.node import TRUST_BUNDLE_SECRET, WORKLOAD_CERTIFICATE_SECRET


def static_bootstrap(
    *,
    listeners: Mapping[str, Listener],
    routes: Mapping[str, RouteConfiguration],
    clusters: Mapping[str, Cluster],
    endpoints: Mapping[str, ClusterLoadAssignment],
    certificate: str,
    private_key: str,
    trust_bundle: str,
) -> str:
    """The bootstrap file as JSON. The last three are PEM, for the secrets that the mesh knows by name."""
    return MessageToJson(
        Bootstrap(
            node={"id": "test", "cluster": "test"},
            layered_runtime={"layers": [_runtime()]},
            static_resources={
                "listeners": [_with_routes(listener, routes) for listener in listeners.values()],
                "clusters": [_with_endpoints(cluster, endpoints) for cluster in clusters.values()],
                "secrets": _secrets(certificate, private_key, trust_bundle),
            },
        )
    )


def _runtime() -> RuntimeLayer:
    """As `outrigger bootstrap` sets it."""
    layer = RuntimeLayer(name="global config")
    layer.static_layer.update({REGEX_SIZE_KEY: LARGEST_REGEX})
    return layer


def _with_routes(listener: Listener, routes: Mapping[str, RouteConfiguration]) -> Listener:
    copied = Listener()
    copied.CopyFrom(listener)
    for chain in copied.filter_chains:
        config = chain.filters[0].typed_config
        manager = HttpConnectionManager()
        if config.Unpack(manager) and manager.HasField("rds"):
            manager.route_config.CopyFrom(routes[manager.rds.route_config_name])
            config.Pack(manager)
    return copied


def _with_endpoints(cluster: Cluster, endpoints: Mapping[str, ClusterLoadAssignment]) -> Cluster:
    copied = Cluster()
    copied.CopyFrom(cluster)
    if copied.type == Cluster.EDS and copied.HasField("eds_cluster_config"):
        copied.load_assignment.CopyFrom(endpoints[copied.eds_cluster_config.service_name])
        copied.ClearField("eds_cluster_config")
        copied.type = Cluster.STATIC
    return copied


def _secrets(certificate: str, private_key: str, trust_bundle: str) -> list[dict[str, Any]]:
    own = {
        "certificate_chain": {"inline_string": certificate},
        "private_key": {"inline_string": private_key},
    }
    return [
        {"name": WORKLOAD_CERTIFICATE_SECRET, "tls_certificate": own},
        {"name": TRUST_BUNDLE_SECRET, "validation_context": {"trusted_ca": {"inline_string": trust_bundle}}},
    ]
