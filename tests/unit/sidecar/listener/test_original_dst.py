from __future__ import annotations

import socket
import struct

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.listener.original_dst import original_destination, parse_sockaddr, plain_address

V4 = struct.pack("=H", socket.AF_INET) + b"\x23\x78" + bytes([10, 96, 0, 7]) + bytes(8)
V6 = struct.pack("=H", socket.AF_INET6) + b"\x23\x78" + bytes(4) + b"\xfd" + bytes(14) + b"\x01" + bytes(4)
LOCAL = SocketAddress("127.0.0.1", 15001)


class FakeSocket:
    """``level``: the level of the socket option that has the answer."""

    def __init__(self, level: int, answer: bytes | OSError) -> None:
        self._level = level
        self._answer = answer

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (self._level, 80)
        if isinstance(self._answer, OSError):
            raise self._answer
        assert size == len(self._answer)
        return self._answer


def test_both_families_are_read() -> None:
    ipv4, ipv6 = FakeSocket(socket.IPPROTO_IP, V4), FakeSocket(socket.IPPROTO_IPV6, V6)
    assert original_destination(ipv4, LOCAL) == SocketAddress("10.96.0.7", 9080)
    assert original_destination(ipv6, SocketAddress("::1", 15001)) == SocketAddress("fd00::1", 9080)


def test_an_ipv4_connection_of_an_ipv6_socket_is_read_as_ipv4() -> None:
    local = plain_address("::ffff:127.0.0.1", 15001)
    assert local == LOCAL
    assert original_destination(FakeSocket(socket.IPPROTO_IP, V4), local) == SocketAddress("10.96.0.7", 9080)
    assert plain_address("::1", 1) == SocketAddress("::1", 1)


def test_a_connection_that_was_not_redirected_has_none() -> None:
    here = SocketAddress("10.96.0.7", 9080)
    assert original_destination(FakeSocket(socket.IPPROTO_IP, V4), here) is None
    untracked = FakeSocket(socket.IPPROTO_IP, OSError(2, "No such file"))
    assert original_destination(untracked, LOCAL) is None


def test_a_connection_on_loopback_was_not_redirected() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        accepted, _ = server.accept()
        with accepted:
            assert original_destination(accepted, SocketAddress(*client.getpeername())) is None


def test_another_size_is_not_an_address() -> None:
    with pytest.raises(struct.error):
        parse_sockaddr(b"short")
