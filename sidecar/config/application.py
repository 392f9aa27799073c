"""The application in the sidecar's pod: its probes, and where it serves its metrics."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.config.endpoint import SocketAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpGetAction:
    """``HTTPGetAction`` of Kubernetes. An empty ``host`` is the pod's own IP address; ``authority`` is the
    value of the Host header, empty for host and port. ``headers`` do not contain it."""

    port: int
    host: str = ""
    path: str = "/"
    https: bool = False
    authority: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSocketAction:
    """``TCPSocketAction`` of Kubernetes. An empty ``host`` is the pod's own IP address."""

    port: int
    host: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcAction:
    """``GRPCAction`` of Kubernetes: ``grpc.health.v1.Health/Check``, always at the pod's own IP address."""

    port: int
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppProber:
    """A probe or a hook of the application. ``timeout_s`` is None for a hook, which the kubelet limits."""

    action: HttpGetAction | TcpSocketAction | GrpcAction
    timeout_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusScrape:
    """Where the application serves its metrics, at the pod's own IP address."""

    port: int
    path: str

    def at(self, host: str) -> SocketAddress:
        return SocketAddress(host, self.port)
