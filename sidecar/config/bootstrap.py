"""The configuration that the process starts with: `Settings` from the command line, `Bootstrap` from the
bootstrap file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from sidecar.config.application import AppProber, PrometheusScrape
from sidecar.config.cluster import TcpKeepalive
from sidecar.config.dns import SYSTEM_RESOLVER, DnsResolver
from sidecar.config.endpoint import Endpoint, SocketAddress
from sidecar.config.snapshot import EMPTY_SNAPSHOT, Snapshot
from sidecar.config.tls import UpstreamTls


class CaProvider(Enum):
    """The signing service at the address of the CA: the control plane's own, or that of an istiod, which has
    Istio's name."""

    OUTRIGGER = "outrigger"
    ISTIOD = "Citadel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The command line and the environment. ``config_yaml`` is merged over the file at ``config_path``.

    ``concurrency``: the number of workers; above 1, each is a process.
    ``cache_dir`` keeps the last good configuration, and no secret of the workload. ``token_file`` is read
    each time that a token is needed; ``token`` is the token from the environment. If ``ca_address`` is empty,
    no certificate is requested; without ``ca_provider``, the audience of the token decides. A
    ``certificate_lifetime_s`` of 0 lets the CA decide. A port of 0 is any free
    port; None opens no port. ``app_probers`` are the application's probes by the path on the metrics port,
    whose headers may be secrets. ``dns_capture``: the sidecar answers the DNS queries of its pod, on
    ``dns_port`` of loopback.
    """

    config_path: Path | None = None
    config_yaml: str = ""
    service_node: str = ""
    service_cluster: str = ""
    log_level: str = "info"
    concurrency: int = 2
    drain_time_s: float = 45.0
    cache_dir: Path | None = None
    ca_address: str = ""
    ca_provider: CaProvider | None = None
    ca_cert: Path | None = None
    token_file: Path | None = None
    token: str = field(default="", repr=False)
    certificate_lifetime_s: float = 0.0
    trust_domain: str = "cluster.local"
    status_port: int | None = 15021
    metrics_port: int | None = 15020
    app_probers: Mapping[str, AppProber] = field(default_factory=dict, repr=False)
    prometheus_scrape: PrometheusScrape | None = None
    dns_capture: bool = False
    dns_port: int = 15053
    addresses_file: Path | None = None
    access_log: str = "off"  # off, text or json


class AdsVariant(Enum):
    """``ApiConfigSource.ApiType``: every response has all resources (state of the world), or only the
    changes."""

    SOTW = "GRPC"
    DELTA = "DELTA_GRPC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ads:
    """``dynamic_resources.ads_config``, with the static cluster that it names: its ``endpoints`` are the
    replicas of the control plane. ``tls`` holds data in place: the files are read, and the names of static
    secrets are resolved."""

    variant: AdsVariant
    cluster_name: str
    endpoints: tuple[Endpoint, ...]
    authority: str = ""
    tls: UpstreamTls | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    connect_timeout_s: float = 5.0
    tcp_keepalive: TcpKeepalive | None = None
    keepalive_interval_s: float = 30.0
    keepalive_timeout_s: float = 10.0
    max_receive_message_bytes: int = 256 * 1024 * 1024
    listeners: bool = False  # whether ``lds_config`` is set
    clusters: bool = False  # whether ``cds_config`` is set


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """``node`` is the serialized ``envoy.config.core.v3.Node`` that is sent to the control plane;
    ``node_id``, ``node_cluster`` and ``node_metadata`` are parts of it, ``node_document`` is its JSON form.
    ``message`` is the serialized ``envoy.config.bootstrap.v3.Bootstrap``. Without ``admin_address``, the
    admin server is off."""

    node: bytes = b""
    node_id: str = ""
    node_cluster: str = ""
    node_metadata: Mapping[str, Any] = field(default_factory=dict)
    node_document: Mapping[str, Any] = field(default_factory=dict)
    message: bytes = field(default=b"", repr=False)
    admin_address: SocketAddress | None = None
    static: Snapshot = EMPTY_SNAPSHOT
    dns_resolver: DnsResolver = SYSTEM_RESOLVER
    ads: Ads | None = None
