"""A pod's network namespace with the rules of `sidecar.intercept`, and with listeners for the proxy, the
application and a server outside."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

from sidecar.config.endpoint import SocketAddress
from sidecar.intercept.__main__ import main
from sidecar.listener.original_dst import original_destination
from tests.support.network_namespaces import (
    APPLICATION,
    PROXY,
    WAIT_S,
    NetworkNamespace,
    Owner,
    Side,
)

PORT: Final = 8080
INBOUND: Final = "inbound"
OUTBOUND: Final = "outbound"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """``at`` is the listener that got the connection; ``target`` the address that the client called."""

    at: str
    target: tuple[str, int]
    client: str


class InterceptedPod:
    """Its listeners: ``inbound`` and ``outbound`` are the proxy's; others are opened by `listen`."""

    def __init__(self, pod: NetworkNamespace, outside: NetworkNamespace, side: Side, variant: str) -> None:
        self.pod: Final = pod
        self.outside: Final = outside
        self.side: Final = side
        self.variant: Final = variant
        self._listeners: Final[dict[str, socket.socket]] = {}
        self._open: Final = ExitStack()
        self.transparent = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        assert self.run("--clean") == 0

    def run(self, *flags: str) -> int:
        """Runs the program in the pod, and returns its exit code."""
        with self.pod.entered():
            return self.main(*flags)

    def main(self, *flags: str) -> int:
        """Runs the program where the caller is."""
        return main(["--iptables", self.variant, *flags])

    def intercept(self, *flags: str) -> None:
        assert self.run(*flags) == 0
        self.transparent = "TPROXY" in flags
        inbound = self.listen(INBOUND, self.pod, 15006, owner=PROXY)
        if self.transparent:
            make_transparent(inbound)
        self.listen(OUTBOUND, self.pod, 15001, owner=PROXY)

    def listen(
        self,
        name: str,
        namespace: NetworkNamespace,
        port: int = PORT,
        *,
        host: str = "",
        owner: Owner = APPLICATION,
    ) -> socket.socket:
        listener = self._open.enter_context(namespace.listen(self.side, port, host=host, owner=owner))
        self._listeners[name] = listener
        return listener

    def call(
        self,
        host: str,
        port: int = PORT,
        *,
        caller: NetworkNamespace | None = None,
        owner: Owner = APPLICATION,
        source: str = "",
        mark: int = 0,
    ) -> Arrival:
        """The application calls the address, unless there is another ``caller``. A ``mark`` allows every
        ``source``. Raises `OSError`."""
        with (caller or self.pod).socket(self.side, socket.SOCK_STREAM, owner) as client:
            if mark:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
                make_transparent(client)
            if source:
                client.bind((source, 0))
            client.connect((host, port))
            ready, _, _ = select.select(self._listeners.values(), [], [], WAIT_S)
            (at,) = (name for name, listener in self._listeners.items() if listener in ready)
            connection, peer = self._listeners[at].accept()
            with connection:
                connection.settimeout(WAIT_S)
                client.sendall(b"ping")
                assert connection.recv(100) == b"ping"
                connection.sendall(b"pong")
                assert client.recv(100) == b"pong"
                local = SocketAddress(*connection.getsockname()[:2])
                target = original_destination(connection, local) or local
        return Arrival(at=at, target=(target.host, target.port), client=peer[0])

    def call_from_outside(self, port: int = PORT, *, host: str = "") -> Arrival:
        return self.call(host or self.side.pod, port, caller=self.outside)

    def rules(self, table: str) -> list[str]:
        """The rules of the table, without the kernel's chains that have none."""
        program = "iptables" if self.side.kind == socket.AF_INET else "ip6tables"
        saved = self.pod.run(f"{program}-{self.variant}-save", "-t", table)
        return [line for line in saved.splitlines() if line.startswith(("-A", ":OUTRIGGER"))]


def make_transparent(sock: socket.socket) -> None:
    """Lets the socket have addresses of other machines: IP_TRANSPARENT, IPV6_TRANSPARENT."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, 75, 1)
    else:
        sock.setsockopt(socket.SOL_IP, 19, 1)
