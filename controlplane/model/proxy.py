"""A proxy that follows this control plane, as its xDS node tells."""

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
    """``http_proxy_port`` 0: the mesh configuration's. ``node`` is the Kubernetes node's name. Hashable by
    identity of content: builders key caches by the parts they read, never by the whole."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whom a token proves. ``pod_name`` and ``pod_uid`` are empty where the token is not bound to a Pod."""

    identity: SpiffeId
    pod_name: str = ""
    pod_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRejection:
    """What a proxy refuses, in its own words. ``type`` is ``cds``, ``eds``, ``lds`` or ``rds``, ``names``
    what the refused response carried (none: unknown)."""

    type: str
    names: frozenset[str]
    reason: str

    def __str__(self) -> str:
        return f"{self.type}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyProgress:
    """How far a connected proxy has come: it was sent, and has acknowledged, all that the snapshot of this
    ``generation`` made for it. ``answered`` is the last one of which it has acknowledged or refused all;
    ``rejections`` is what it refuses."""

    proxy: Proxy
    generation: int
    answered: int = 0
    rejections: tuple[ProxyRejection, ...] = ()
