"""Only the server that binds a reserved port explicitly can use it."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from outrigger.demo.ports import port_of, reserve_port


def test_a_server_can_bind_its_reserved_port() -> None:
    with (
        closing(reserve_port()) as keeper,
        socket.create_server(("127.0.0.1", port_of(keeper))) as server,
        socket.create_connection(("127.0.0.1", port_of(keeper)), timeout=5) as client,
    ):
        accepted, address = server.accept()
        assert address == client.getsockname()
        accepted.close()


def test_a_reserved_port_refuses_connections_before_its_server_starts() -> None:
    with closing(reserve_port()) as keeper, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(keeper)), timeout=5)


def test_a_reserved_port_is_never_assigned_as_a_free_port() -> None:
    keepers = [reserve_port() for _ in range(200)]
    ports = {port_of(keeper) for keeper in keepers}
    assert len(ports) == 200
    others = [socket.create_server(("127.0.0.1", 0)) for _ in range(200)]
    assert ports.isdisjoint(map(port_of, others))
    for each in (*keepers, *others):
        each.close()
