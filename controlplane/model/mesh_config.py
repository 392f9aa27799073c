"""The settings of the whole mesh. Names, defaults and meanings are those of Istio's MeshConfig."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from controlplane.model.proxy_config import ProxyConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshConfig:
    trust_domain: str = "cluster.local"
    root_namespace: str = "istio-system"
    dns_domain: str = "cluster.local"
    outbound_port: int = 15001  # proxyListenPort
    inbound_port: int = 15006  # proxyInboundListenPort
    proxy_http_port: int = 0  # proxyHttpPort; 0: no explicit HTTP proxy listener
    allow_any_outbound: bool = True  # outboundTrafficPolicy: ALLOW_ANY, else REGISTRY_ONLY
    enable_auto_mtls: bool = True
    h2_upgrade: bool = False  # h2UpgradePolicy: UPGRADE
    connect_timeout: timedelta = timedelta(seconds=10)
    default_retry_attempts: int = 2  # defaultHttpRetryPolicy
    default_config: ProxyConfig = field(default_factory=ProxyConfig)  # of injected proxies
    enable_prometheus_merge: bool = True
