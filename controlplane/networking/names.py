"""The names of resources on the wire: those of Istio, which its tools and users know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BLACK_HOLE_CLUSTER: Final = "BlackHoleCluster"
PASSTHROUGH_CLUSTER: Final = "PassthroughCluster"
INBOUND_PASSTHROUGH_CLUSTER: Final = "InboundPassthroughCluster"

VIRTUAL_OUTBOUND: Final = "virtualOutbound"
VIRTUAL_INBOUND: Final = "virtualInbound"

# The route configuration of the explicit HTTP proxy listener.
HTTP_PROXY_ROUTES: Final = "http_proxy"


def parse_port(text: str) -> int | None:
    """Returns None if the text is not a port number: proxies can send any name."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None


@dataclass(frozen=True, slots=True)
class OutboundName:
    """``outbound|<port>|<subset>|<hostname>``: a cluster, its load assignment, or, for gRPC, a route
    configuration."""

    port: int
    subset: str
    hostname: str

    def __str__(self) -> str:
        return f"outbound|{self.port}|{self.subset}|{self.hostname}"

    @property
    def balanced(self) -> str:
        """The cluster of a headless service for traffic that was not sent to the address of an endpoint."""
        return f"balanced|{self.port}|{self.subset}|{self.hostname}"

    @property
    def sni(self) -> str:
        """The server name in mesh TLS: Istio's ``outbound_.<port>_.<subset>_.<hostname>``."""
        return f"outbound_.{self.port}_.{self.subset}_.{self.hostname}"

    @classmethod
    def parse(cls, name: str) -> OutboundName | None:
        """Returns None if the name does not have this form."""
        parts = name.split("|")
        port = parse_port(parts[1]) if len(parts) == 4 and parts[0] == "outbound" else None
        return None if port is None else cls(port, parts[2], parts[3])


def inbound_cluster(port: int) -> str:
    return f"inbound|{port}||"


def listener_name(address: str, port: int) -> str:
    return f"{address}_{port}"


def endpoints_hostname(cluster_name: str) -> str:
    """The service of a load assignment; "" if it has none."""
    parsed = OutboundName.parse(cluster_name)
    return parsed.hostname if parsed else ""
