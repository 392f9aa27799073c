"""Network namespaces of this machine: two of them with a link between them. Tests open the sockets in them.

    outside 10.77.0.1, fd77::1 -- eth0 -- 10.77.0.2, fd77::2 pod

A namespace has no name, and ends with the last descriptor and socket in it: nothing is left of a killed test.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, Self

import pytest

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PROGRAMS: Final = ("ip", "iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy")
WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Owner:
    """The user who opens a socket, which rules of iptables can match."""

    uid: int
    gid: int


ROOT: Final = Owner(0, 0)
APPLICATION: Final = Owner(4000, 4000)
PROXY: Final = Owner(1337, 1337)


def require_namespaces() -> None:
    """Skips the test where namespaces cannot be made; with CI=true it fails."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    reason = f"not installed: {', '.join(missing)}" if missing else "" if os.geteuid() == 0 else "needs root"
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"network namespaces: {reason}")
    if reason:
        pytest.skip(f"network namespaces: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The addresses of one family: ``outside`` is the other end of the link, ``elsewhere`` an address behind
    it."""

    kind: socket.AddressFamily
    pod: str
    outside: str
    elsewhere: str
    loopback: str
    inbound_source: str


V4: Final = Side(
    kind=socket.AF_INET,
    pod="10.77.0.2",
    outside="10.77.0.1",
    elsewhere="198.51.100.7",
    loopback="127.0.0.1",
    inbound_source="127.0.0.6",
)
V6: Final = Side(
    kind=socket.AF_INET6,
    pod="fd77::2",
    outside="fd77::1",
    elsewhere="2001:db8::7",
    loopback="::1",
    inbound_source="::6",
)


class NetworkNamespace:
    def __init__(self) -> None:
        with _kept():
            _check(_LIBC.unshare(_CLONE_NEWNET))
            self._descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.ip("link set lo up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    @contextmanager
    def entered(self, owner: Owner = ROOT) -> Iterator[None]:
        """Sockets and processes of the block are in this namespace, and belong to the user."""
        with _kept():
            _check(_LIBC.setns(self._descriptor, _CLONE_NEWNET))
            os.setegid(owner.gid)
            os.seteuid(owner.uid)
            try:
                yield
            finally:
                os.seteuid(0)
                os.setegid(0)

    def run(self, *command: str, text: str = "") -> str:
        with self.entered():
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def ip(self, *commands: str) -> None:
        self.run("ip", "-batch", "-", text="\n".join([*commands, ""]))

    def listen(self, side: Side, port: int, *, host: str = "", owner: Owner = ROOT) -> socket.socket:
        """A listening TCP socket; ``host`` is by default every address of the family."""
        listener = self.socket(side, socket.SOCK_STREAM, owner)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if side.kind == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen()
        return listener

    def socket(self, side: Side, kind: socket.SocketKind, owner: Owner) -> socket.socket:
        with self.entered(owner):
            opened = socket.socket(side.kind, kind)
        opened.settimeout(WAIT_S)
        return opened


@contextmanager
def linked_namespaces() -> Iterator[tuple[NetworkNamespace, NetworkNamespace]]:
    """The pod, and the outside, which also has the addresses ``elsewhere``."""
    with ExitStack() as stack:
        pod, outside = stack.enter_context(NetworkNamespace()), stack.enter_context(NetworkNamespace())
        pod.ip(f"link add eth0 type veth peer name eth0 netns {outside.path}")
        for namespace, own, other in ((pod, "pod", "outside"), (outside, "outside", "pod")):
            namespace.ip(
                "link set eth0 up",
                f"address add {getattr(V4, own)}/24 dev eth0",
                f"address add {getattr(V6, own)}/64 dev eth0 nodad",
                f"route add default via {getattr(V4, other)}",
                f"route add default via {getattr(V6, other)}",
            )
        outside.ip(*(f"address add {side.elsewhere} dev lo" for side in (V4, V6)))
        yield pod, outside


@contextmanager
def _kept() -> Iterator[None]:
    """Returns to the thread's own namespace."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _check(_LIBC.setns(own, _CLONE_NEWNET))
        os.close(own)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
