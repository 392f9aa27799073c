"""A proxy that follows this control plane, as its xDS node describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from protos.spiffe import SpiffeId


class ProxyType(Enum):
    SIDECAR = "sidecar"
    GRPC = "grpc"  # gRPC's own xDS client: GENERATOR=grpc, or a user agent that starts with gRPC


class InterceptionMode(Enum):
    REDIRECT = "REDIRECT"
    TPROXY = "TPROXY"
    NONE = "NONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """``http_proxy_port`` 0 means the port of the mesh configuration. ``node`` is the name of the Kubernetes
    node. ``captures_dns``: the proxy answers the DNS queries of its pod. ``identity_dir`` is the folder in
    which an Envoy's agent stores the certificate, or empty."""

    id: str
    type: ProxyType
    namespace: str
    workload: str
    ip: str
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    node: str = ""
    http_proxy_port: int = 0
    interception_mode: InterceptionMode = InterceptionMode.REDIRECT
    captures_dns: bool = False
    identity_dir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The identity that a token proves. ``pod_name`` and ``pod_uid`` are empty if the token is not bound to a
    Pod."""

    identity: SpiffeId
    pod_name: str = ""
    pod_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRejection:
    """A rejection by a proxy, with its message. ``type`` is a value of `protos.type_urls.SHORT_NAMES`.
    ``names`` are the resources of the rejected response (empty: unknown)."""

    type: str
    names: frozenset[str]
    reason: str

    def __str__(self) -> str:
        return f"{self.type}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyProgress:
    """The progress of a connected proxy: it was sent, and has acknowledged, all resources that the snapshot
    of this ``generation`` has for it. ``answered`` is the newest generation of which it has acknowledged or
    rejected every resource; ``rejections`` are those that no later acknowledgement has ended."""

    proxy: Proxy
    generation: int
    answered: int = 0
    rejections: tuple[ProxyRejection, ...] = ()
