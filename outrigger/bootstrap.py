"""`outrigger bootstrap`: prints an Envoy v3 bootstrap file for one proxy. The sidecar and Envoy can both use
it.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol, config.bootstrap.v3.Bootstrap
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from outrigger.errors import CommandError
from protos import node
from protos.envoy_runtime import LARGEST_REGEX, REGEX_SIZE_KEY

XDS_CLUSTER: Final = "xds-grpc"  # Istio's name

_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_HTTP: Final = "type.googleapis.com/envoy.extensions.upstreams.http.v3"

# The files that `outrigger certificate request` writes. The names are Istio's.
CERTIFICATE_CHAIN_FILE: Final = "cert-chain.pem"
PRIVATE_KEY_FILE: Final = "key.pem"
TRUST_BUNDLE_FILE: Final = "root-cert.pem"


class Interception(StrEnum):
    """How connections reach the proxy. NONE means that the application uses it as its HTTP proxy."""

    NONE = "NONE"
    REDIRECT = "REDIRECT"


class OutputFormat(StrEnum):
    YAML = "yaml"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parses ``host:port`` or ``[::1]:port``. Raises `CommandError`."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise CommandError(f"invalid address {text!r}: expected HOST:PORT")
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
    """The settings of a bootstrap file. ``ca_certificate`` contains the roots for the control plane's
    certificate; None means plaintext. ``identity_dir`` and ``token`` are for Envoy, which cannot request
    certificates and does not read a token file."""

    node_id: node.NodeId
    xds_address: Address
    ca_certificate: Path | None = None
    service_account: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    admin_port: int = 15000
    http_proxy_port: int = 0
    interception: Interception = Interception.REDIRECT
    delta: bool = True
    identity_dir: Path | None = None
    token: str = field(default="", repr=False)

    def document(self) -> dict[str, Any]:
        """Returns the bootstrap file's content, to be written as YAML or JSON."""
        static: dict[str, Any] = {"clusters": [self._xds_cluster()]}
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
            node.LABELS: dict(self.labels),
            node.INTERCEPTION_MODE: self.interception.value,
        }
        if self.http_proxy_port:
            metadata[node.HTTP_PROXY_PORT] = str(self.http_proxy_port)  # Istio writes metadata as strings
        return {
            "id": str(self.node_id),
            "cluster": f"{self.node_id.workload}.{self.node_id.namespace}",
            "metadata": metadata,
        }

    def _dynamic_resources(self) -> dict[str, Any]:
        service: dict[str, Any] = {"envoy_grpc": {"cluster_name": XDS_CLUSTER}}
        if self.token:
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


def bootstrap(
    *,
    xds_address: Annotated[
        str, typer.Option(help="The address of the control plane's xDS server, HOST:PORT.")
    ],
    node_id: Annotated[
        str, typer.Option("--node", help="The full node id, instead of --name, --namespace and --ip.")
    ] = "",
    name: Annotated[str, typer.Option(help="The workload's name.")] = "",
    namespace: Annotated[str, typer.Option(help="The workload's namespace.")] = "default",
    ip: Annotated[str, typer.Option(help="The workload's address.")] = "127.0.0.1",
    service_account: Annotated[str, typer.Option(help="The workload's service account.")] = "default",
    label: Annotated[
        list[str] | None, typer.Option(help="A label of the workload, KEY=VALUE. Can be repeated.")
    ] = None,
    ca_cert: Annotated[
        Path | None,
        typer.Option(help="The roots for the control plane's certificate. Without it, xDS uses plaintext."),
    ] = None,
    identity_dir: Annotated[
        Path | None, typer.Option(help="For Envoy: the output folder of `outrigger certificate request`.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="For Envoy over TLS: the token, which is written into the bootstrap file."),
    ] = None,
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="The admin port, on 127.0.0.1.")] = 15000,
    http_proxy_port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="The port of this proxy's HTTP proxy; 0 means the mesh's default."
        ),
    ] = 0,
    interception: Annotated[
        Interception, typer.Option(help="How connections reach the proxy.")
    ] = Interception.REDIRECT,
    delta: Annotated[
        bool, typer.Option("--delta/--sotw", help="Incremental or state-of-the-world xDS.")
    ] = True,
    output: Annotated[OutputFormat, typer.Option("--format", help="The output format.")] = OutputFormat.YAML,
) -> None:
    """Print the bootstrap file of one proxy, for `envoy -c FILE` or `python -m sidecar -c FILE`."""
    document = Bootstrap(
        node_id=_node_id(node_id, name, namespace, ip),
        xds_address=Address.parse(xds_address),
        ca_certificate=ca_cert and ca_cert.absolute(),
        service_account=service_account,
        labels=_labels(label or []),
        admin_port=admin_port,
        http_proxy_port=http_proxy_port,
        interception=interception,
        delta=delta,
        identity_dir=identity_dir and identity_dir.absolute(),
        token=read_token(token_file) if token_file else "",
    ).document()
    if output is OutputFormat.JSON:
        import json

        print(json.dumps(document, indent=2))
    else:
        import yaml

        print(yaml.safe_dump(document, sort_keys=False), end="")


def read_token(path: Path) -> str:
    """Reads a token file. Raises `CommandError`."""
    try:
        return path.read_text("ascii").strip()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} does not contain a token: {error}") from error


def _node_id(whole: str, name: str, namespace: str, ip: str) -> node.NodeId:
    if bool(whole) == bool(name):
        raise CommandError("exactly one of --node and --name is required")
    if not whole:
        domain = f"{namespace}.svc.cluster.local"
        return node.NodeId(proxy_type="sidecar", ip=ip, workload=name, namespace=namespace, dns_domain=domain)
    try:
        return node.NodeId.parse(whole)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _labels(pairs: list[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not key or not separator:
            raise CommandError(f"--label {pair!r}: expected KEY=VALUE")
        labels[key] = value
    return labels
