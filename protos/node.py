"""The conventions for ``envoy.config.core.v3.Node``, which identifies a proxy, and for other metadata.

The node id has Istio's format ``<type>~<ip>~<workload>.<namespace>~<namespace>.svc.<domain>``. The metadata
keys are those of Istio's ``NodeMetadata`` that this mesh reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Node metadata keys.
NAMESPACE: Final = "NAMESPACE"
LABELS: Final = "LABELS"
SERVICE_ACCOUNT: Final = "SERVICE_ACCOUNT"
WORKLOAD_NAME: Final = "WORKLOAD_NAME"
CLUSTER_ID: Final = "CLUSTER_ID"
NODE_NAME: Final = "NODE_NAME"  # the Kubernetes node
INTERCEPTION_MODE: Final = "INTERCEPTION_MODE"  # REDIRECT, TPROXY or NONE
HTTP_PROXY_PORT: Final = "HTTP_PROXY_PORT"  # MeshConfig.proxyHttpPort, for this proxy only
DNS_CAPTURE: Final = "DNS_CAPTURE"  # the proxy answers the DNS queries of its pod
# The folder in which the agent of an Envoy stores the workload's certificate (`protos.identity_files`).
IDENTITY_DIR: Final = "IDENTITY_DIR"
GENERATOR: Final = "GENERATOR"  # "grpc" for gRPC's own xDS client

# Istio's names of the SDS secrets for the workload's own certificate and for the trust bundle. A sidecar uses
# its own certificate for them; an Envoy finds them in `IDENTITY_DIR`, or in its bootstrap file.
WORKLOAD_CERTIFICATE_SECRET: Final = "default"
TRUST_BUNDLE_SECRET: Final = "ROOTCA"

# The ALPN protocol that distinguishes mesh TLS from the application's own TLS (Istio's name).
MESH_ALPN: Final = "istio"

# Endpoint and cluster metadata namespaces.
TRANSPORT_SOCKET_MATCH: Final = "envoy.transport_socket_match"
TLS_MODE_LABEL: Final = "security.istio.io/tlsMode"
# cluster: {"services": [{"host":, "name":, "namespace":}]}
ISTIO_METADATA: Final = "istio"
# Metadata of an endpoint, and of a listener for the proxy itself: "name;namespace;canonical
# name;revision;cluster".
WORKLOAD_METADATA: Final = "workload"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeId:
    """A parsed node id. ``workload`` is the name of the Pod or WorkloadEntry."""

    proxy_type: str
    ip: str
    workload: str
    namespace: str
    dns_domain: str

    def __str__(self) -> str:
        return f"{self.proxy_type}~{self.ip}~{self.workload}.{self.namespace}~{self.dns_domain}"

    @classmethod
    def parse(cls, node_id: str) -> NodeId:
        """Parses a node id. Raises ``ValueError`` for an id that does not have Istio's format."""
        parts = node_id.split("~")
        if len(parts) != 4:
            raise ValueError(
                f"node id {node_id!r}: expected <type>~<ip>~<workload>.<namespace>~<namespace>.svc.<domain>"
            )
        workload, _, namespace = parts[2].rpartition(".")
        if not workload or not namespace:
            raise ValueError(f"node id {node_id!r}: expected <workload>.<namespace> as the third part")
        return cls(
            proxy_type=parts[0], ip=parts[1], workload=workload, namespace=namespace, dns_domain=parts[3]
        )
