"""PROXY headers from clients and to hosts: what the real Envoy and the sidecar accept, pass on and count."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from sidecar.proxy_protocol import ProxyHeader, read_header
from tests.interop.parity.cluster_pair import static_cluster
from tests.interop.parity.conftest import proxy_command
from tests.support.admin_client import ask
from tests.support.processes import child, free_port

TYPE = "type.googleapis.com/envoy.extensions"
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
V4 = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 4711, 443)
V6 = b"\x20\x01" + b"\0" * 13 + b"\x07" + b"\x20\x01" + b"\0" * 13 + b"\x01" + struct.pack("!HH", 4711, 443)
EVERY = {"match_type": "INCLUDE_ALL"}
DEADLINE_S = 10.0


def binary(body: bytes, command: int = 0x21, family: int = 0x11) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(body)) + body


# What a client may begin a connection with, before "hi".
HEADERS = {
    "v1": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    "v1 TCP6": b"PROXY TCP6 2001:DB8::7 ::ffff:1.2.3.4 4711 443\r\n",
    "v1 UNKNOWN": b"PROXY UNKNOWN\r\n",
    "v1 UNKNOWN with more": b"PROXY UNKNOWN a b c d\r\n",
    "v1 of the greatest length": b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n",
    "v1 too long": b"PROXY UNKNOWN " + b"f" * 200 + b"\r\n",
    "v1 with two spaces": b"PROXY TCP4  192.0.2.7 198.51.100.1 4711 443\r\n",
    "v1 with a space at the end": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 \r\n",
    "v1 with ports 0 and 0080": b"PROXY TCP4 192.0.2.7 198.51.100.1 0 0080\r\n",
    "v1 with port 65536": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
    "v1 of another family": b"PROXY TCP4 ::1 ::2 4711 443\r\n",
    "v1 of a multicast address": b"PROXY TCP4 224.0.0.1 198.51.100.1 4711 443\r\n",
    "v1 of no address": b"PROXY TCP4 0.0.0.0 198.51.100.1 4711 443\r\n",
    "v1 to the broadcast address": b"PROXY TCP4 192.0.2.7 255.255.255.255 4711 443\r\n",
    "v1 in lower case": b"proxy tcp4 192.0.2.7 198.51.100.1 4711 443\r\n",
    "v1 of UDP": b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    "v1 of another word": b"PROXYS TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    "v2": binary(V4),
    "v2 over IPv6": binary(V6, family=0x21),
    "v2 of datagrams": binary(V4, family=0x12),
    "v2 of no family": binary(V4, family=0x00),
    "v2 of a Unix socket": binary(b"\0" * 216, family=0x31),
    "v2 LOCAL": binary(b"", command=0x20, family=0),
    "v2 LOCAL with addresses": binary(V4, command=0x20),
    "v2 of another command": binary(V4, command=0x22),
    "v2 of version 3": binary(V4, command=0x31),
    "v2 too short": binary(V4[:8]),
    "v2 with TLVs": binary(V4 + b"\x01\0\3h2c\xeb\0\0"),
    "v2 with a TLV of an added type": binary(V4 + b"\xea\0\3abc"),
    "v2 with a large TLV": binary(V4 + b"\x30" + struct.pack("!H", 30000) + b"a" * 30000),
    "v2 that ends in a TLV": binary(V4 + b"\x01\0\7h2c"),
    "v2 that ends in the head of a TLV": binary(V4 + b"\x01"),
    "v2 of a multicast address": binary(b"\xe0" + V4[1:]),
    "none": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
}  # fmt: skip
LISTENERS = ("every", "optional", "plain")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the host got. An address of this machine is ``here``, since ports differ."""

    version: int
    source: str
    destination: str
    tlvs: tuple[tuple[int, bytes], ...]
    rest: bytes


class World:
    def __init__(self, host: socket.socket, ports: dict[str, dict[str, int]]) -> None:
        self._host = host
        self.ports = ports

    def converse(self, proxy: str, listener: str, data: bytes) -> Seen | None:
        """None if the connection is refused."""
        with socket.create_connection(("127.0.0.1", self.ports[proxy][listener]), DEADLINE_S) as client:
            client.sendall(data + b"hi")
            client.settimeout(0.02)
            for _ in range(int(DEADLINE_S / 0.02)):
                try:
                    accepted, _ = self._host.accept()
                except TimeoutError:
                    if _ended(client):
                        return None
                else:
                    with accepted:
                        if (seen := _read(accepted)) is not None:
                            return seen
        raise AssertionError("neither served nor refused")

    def counters(self, proxy: str, prefix: str) -> dict[str, int]:
        page = ask(self.ports[proxy]["admin"], f"/stats?format=json&filter=^{prefix}\\.")
        stats = {stat["name"]: stat["value"] for stat in page.json["stats"] if "name" in stat}
        return {name: value for name, value in stats.items() if name.startswith("proxy_proto.")}


def _ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def _read(accepted: socket.socket) -> Seen | None:
    """None for the connection that waited for the proxy's port."""
    accepted.settimeout(DEADLINE_S)
    data = b""
    while not data.endswith(b"hi"):
        received = accepted.recv(65536)
        if not received:
            return None
        data += received
    header = read_header(data)
    assert isinstance(header, ProxyHeader)
    return Seen(
        header.version, _place(header.source), _place(header.destination), header.tlvs, data[header.size :]
    )


def _place(address: object) -> str:
    return "here" if str(address).startswith("127.0.0.1") else str(address)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("proxy_protocol")
    with ExitStack() as stack:
        host = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        host.settimeout(0.02)
        ports: dict[str, dict[str, int]] = {}
        for name in ("envoy", "sidecar"):
            ports[name] = {listener: free_port() for listener in (*LISTENERS, "admin")}
            file = folder / f"{name}.yaml"
            file.write_text(json.dumps(bootstrap(ports[name], host.getsockname()[1])))
            process = stack.enter_context(child(proxy_command(name, file), folder / f"{name}.log"))
            for listener in LISTENERS:
                process.wait_for_port(ports[name][listener])
        yield World(host, ports)


def bootstrap(ports: dict[str, int], host: int) -> dict[str, Any]:
    added = [{"type": 0xEA, "value": "aGVsbG8="}]
    return {
        "node": {"id": "parity", "cluster": "parity"},
        "admin": {"address": _address(ports["admin"])},
        "static_resources": {
            "listeners": [
                _listener("every", ports, "binary", {"pass_through_tlvs": EVERY}),
                _listener(
                    "optional",
                    ports,
                    "text",
                    {
                        "allow_requests_without_proxy_protocol": True,
                        "disallowed_versions": ["V1"],
                        "stat_prefix": "edge",
                    },
                ),
                _listener("plain", ports, "text", None),
            ],
            "clusters": [
                static_cluster(
                    "binary",
                    [("127.0.0.1", host)],
                    transport_socket=_socket(version="V2", pass_through_tlvs=EVERY, added_tlvs=added),
                ),
                static_cluster("text", [("127.0.0.1", host)], transport_socket=_socket(version="V1")),
            ],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(
    name: str, ports: dict[str, int], cluster: str, header: dict[str, Any] | None
) -> dict[str, Any]:
    proxy = {
        "@type": f"{TYPE}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": name,
        "cluster": cluster,
    }
    reads = {"@type": f"{TYPE}.filters.listener.proxy_protocol.v3.ProxyProtocol", **(header or {})}
    return {
        "name": name,
        "address": _address(ports[name]),
        "listener_filters": [] if header is None else [{"name": "proxy", "typed_config": reads}],
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}],
    }


def _socket(**config: Any) -> dict[str, Any]:
    raw = {"name": "raw", "typed_config": {"@type": f"{TYPE}.transport_sockets.raw_buffer.v3.RawBuffer"}}
    return {
        "name": "envoy.transport_sockets.upstream_proxy_protocol",
        "typed_config": {
            "@type": f"{TYPE}.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
            "config": config,
            "transport_socket": raw,
        },
    }


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("listener", LISTENERS)
def test_headers(world: World, listener: str, name: str) -> None:
    envoy, sidecar = (world.converse(proxy, listener, HEADERS[name]) for proxy in ("envoy", "sidecar"))
    assert sidecar == envoy


def test_the_counters_are_the_same_afterwards(world: World) -> None:
    for header in HEADERS.values():
        for proxy in ("envoy", "sidecar"):
            for listener in ("every", "optional"):
                world.converse(proxy, listener, header)
    envoy, sidecar = (world.counters(proxy, "proxy_proto") for proxy in ("envoy", "sidecar"))
    assert sidecar == envoy
    assert {counter for counter, value in envoy.items() if not value} == {
        "proxy_proto.edge.not_found_disallowed",
        "proxy_proto.edge.versions.v1.disallowed",
        "proxy_proto.edge.versions.v1.error",
        "proxy_proto.edge.versions.v1.found",
        "proxy_proto.edge.versions.v2.disallowed",
        "proxy_proto.not_found_allowed",
        "proxy_proto.versions.v1.disallowed",
        "proxy_proto.versions.v2.disallowed",
    }
