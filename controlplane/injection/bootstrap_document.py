"""The Envoy v3 bootstrap document of one proxy. The sidecar and Envoy can both use it.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol, config.bootstrap.v3.Bootstrap
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from controlplane.errors import SettingsError
from controlplane.model.proxy import InterceptionMode
from protos import node
from protos.envoy_runtime import LARGEST_REGEX, REGEX_SIZE_KEY
from protos.identity_files import CERTIFICATE_CHAIN_FILE, PRIVATE_KEY_FILE, TRUST_BUNDLE_FILE

XDS_CLUSTER: Final = "xds-grpc"  # Istio's name

_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_HTTP: Final = "type.googleapis.com/envoy.extensions.upstreams.http.v3"
_GRPC_CREDENTIAL: Final = "type.googleapis.com/envoy.config.grpc_credential.v3"
_TOKEN_FROM_FILE: Final = "envoy.grpc_credentials.file_based_metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parses ``host:port`` or ``[::1]:port``. Raises `SettingsError`."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise SettingsError(f"invalid address {text!r}: expected HOST:PORT")
        return cls(host=host.removeprefix("[").removesuffix("]"), port=int(port))

    @property
    def is_ip(self) -> bool:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """The settings of a bootstrap document. ``ca_certificate`` contains the roots for the control plane's
    certificate; None means plaintext. ``node_cluster`` is by default made of the workload and its namespace.
    ``metadata`` is added to the node's metadata.

    The others are for Envoy, which cannot request certificates: ``identity_dir`` contains its certificate and
    key. ``token`` is written into the document. ``token_file`` is read for each stream instead; it needs
    ``ca_certificate``."""

    node_id: node.NodeId
    node_cluster: str = ""
    xds_address: Address
    ca_certificate: Path | None = None
    service_account: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    admin_port: int = 15000
    http_proxy_port: int = 0
    interception: InterceptionMode = InterceptionMode.REDIRECT
    delta: bool = True
    identity_dir: Path | None = None
    token: str = field(default="", repr=False)
    token_file: Path | None = None

    def document(self) -> dict[str, Any]:
        """Returns the document, to be written as YAML or JSON."""
        static: dict[str, Any] = {}
        if self.token_file is None:
            static["clusters"] = [self._xds_cluster()]
        if self.identity_dir is not None:
            static["secrets"] = _identity_secrets(self.identity_dir)
        return {
            "node": self._node(),
            "admin": {"address": _socket_address(Address(host="127.0.0.1", port=self.admin_port))},
            "dynamic_resources": self._dynamic_resources(),
            "static_resources": static,
            "layered_runtime": {
                "layers": [
                    {"name": "global config", "static_layer": {REGEX_SIZE_KEY: LARGEST_REGEX}},
                    # Envoy's default layer, which it omits when other layers are configured.
                    {"name": "admin", "admin_layer": {}},
                ]
            },
        }

    def _node(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            node.NAMESPACE: self.node_id.namespace,
            node.SERVICE_ACCOUNT: self.service_account,
            node.WORKLOAD_NAME: self.node_id.workload,
            node.INTERCEPTION_MODE: self.interception.value,
        }
        if self.labels:
            metadata[node.LABELS] = dict(self.labels)
        if self.http_proxy_port:
            metadata[node.HTTP_PROXY_PORT] = str(self.http_proxy_port)  # Istio writes metadata as strings
        return {
            "id": str(self.node_id),
            "cluster": self.node_cluster or f"{self.node_id.workload}.{self.node_id.namespace}",
            "metadata": metadata | dict(self.metadata),
        }

    def _dynamic_resources(self) -> dict[str, Any]:
        service: dict[str, Any] = {"envoy_grpc": {"cluster_name": XDS_CLUSTER}}
        if self.token_file is not None:
            service = {"google_grpc": self._google_grpc(self.token_file)}
        elif self.token:
            service["initial_metadata"] = [{"key": "authorization", "value": f"Bearer {self.token}"}]
        return {
            "ads_config": {
                "api_type": "DELTA_GRPC" if self.delta else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [service],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        }

    def _google_grpc(self, token_file: Path) -> dict[str, Any]:
        """``GrpcService.GoogleGrpc``: Envoy's own gRPC client cannot read a token from a file."""
        return {
            "target_uri": str(self.xds_address),
            "stat_prefix": XDS_CLUSTER,
            "channel_credentials": {
                "ssl_credentials": {"root_certs": {"filename": str(self.ca_certificate)}},
            },
            "call_credentials": [
                {
                    "from_plugin": {
                        "name": _TOKEN_FROM_FILE,
                        "typed_config": {
                            "@type": f"{_GRPC_CREDENTIAL}.FileBasedMetadataConfig",
                            "secret_data": {"filename": str(token_file)},
                            "header_key": "authorization",
                            "header_prefix": "Bearer ",
                        },
                    }
                }
            ],
            "credentials_factory_name": _TOKEN_FROM_FILE,
            # Detects a control plane that disappeared without closing the connection.
            "channel_args": {
                "args": {
                    "grpc.keepalive_time_ms": {"int_value": 30_000},
                    "grpc.keepalive_timeout_ms": {"int_value": 5_000},
                }
            },
        }

    def _xds_cluster(self) -> dict[str, Any]:
        endpoint = {"endpoint": {"address": _socket_address(self.xds_address)}}
        cluster: dict[str, Any] = {
            "name": XDS_CLUSTER,
            "type": "STATIC" if self.xds_address.is_ip else "STRICT_DNS",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": XDS_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": f"{_HTTP}.HttpProtocolOptions",
                    # Detects a control plane that disappeared without closing the connection.
                    "explicit_http_config": {
                        "http2_protocol_options": {
                            "connection_keepalive": {"interval": "30s", "timeout": "5s"}
                        }
                    },
                }
            },
        }
        if self.ca_certificate is not None:
            cluster["transport_socket"] = self._tls(self.ca_certificate)
        return cluster

    def _tls(self, ca_certificate: Path) -> dict[str, Any]:
        """The TLS context for the control plane. It also checks the server's name, because every workload of
        the mesh has a certificate from the same root."""
        server = {
            "san_type": "IP_ADDRESS" if self.xds_address.is_ip else "DNS",
            "matcher": {"exact": self.xds_address.host},
        }
        context: dict[str, Any] = {
            "@type": f"{_TLS}.UpstreamTlsContext",
            "common_tls_context": {
                "validation_context": {
                    "trusted_ca": {"filename": str(ca_certificate)},
                    "match_typed_subject_alt_names": [server],
                }
            },
        }
        if not self.xds_address.is_ip:  # RFC 6066 section 3: SNI must not contain an address
            context["sni"] = self.xds_address.host
        return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _identity_secrets(directory: Path) -> list[dict[str, Any]]:
    return [
        {
            "name": node.WORKLOAD_CERTIFICATE_SECRET,
            "tls_certificate": {
                "certificate_chain": {"filename": str(directory / CERTIFICATE_CHAIN_FILE)},
                "private_key": {"filename": str(directory / PRIVATE_KEY_FILE)},
            },
        },
        {
            "name": node.TRUST_BUNDLE_SECRET,
            "validation_context": {"trusted_ca": {"filename": str(directory / TRUST_BUNDLE_FILE)}},
        },
    ]


def _socket_address(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}
