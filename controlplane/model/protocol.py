"""Istio's explicit protocol selection: by ``appProtocol``, or else by port name,
``<protocol>[-<suffix>]``."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.model.service import Protocol

_BY_NAME: Mapping[str, Protocol] = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "grpc": Protocol.GRPC,
    "https": Protocol.HTTPS,
    "tls": Protocol.TLS,
    "tcp": Protocol.TCP,
    "mongo": Protocol.TCP,
    "mysql": Protocol.TCP,
    "redis": Protocol.TCP,
    # Kubernetes' own prefixed names of appProtocol (KEP-3726).
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}


# Istio's ports for protocols in which the server sends first: SMTP, DNS, MySQL, MongoDB.
_TCP_PORTS = frozenset({25, 53, 3306, 27017})


def select_protocol(port_name: str, app_protocol: str | None = None, number: int = 0) -> Protocol:
    """``app_protocol`` takes precedence. In both, the protocol ends at the first hyphen (``http-metrics``).
    If neither declares a protocol, some port numbers imply one."""
    name = (app_protocol or port_name).lower()
    if name == "grpc-web" or name.startswith("grpc-web-"):
        return Protocol.GRPC_WEB
    unsaid = Protocol.TCP if number in _TCP_PORTS else Protocol.UNSUPPORTED
    return _BY_NAME.get(name.partition("-")[0], unsaid)
