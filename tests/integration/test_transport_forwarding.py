"""`Forwarder`, in each of its implementations, with sockets."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from types import ModuleType
from typing import Any

import pytest

_MODULES = ("sidecar.transport.forwarder_python", "sidecar.transport._forwarder")
IMPLEMENTATIONS = [importlib.import_module(name) for name in _MODULES if importlib.util.find_spec(name)]
BUFFER_BYTES = 64 * 1024


class Fixture:
    """Two connections: what `client` sends is forwarded to `host`."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.forwarder = module.Forwarder(BUFFER_BYTES)
        self.client, self.source = _connection()
        self.sink, self.host = _connection()
        self.stops: list[tuple[bytes, int]] = []
        self.on_stop: Callable[[], None] = lambda: None
        self.flow = self.new_flow(self.source, self.sink)
        self.forwarder.start(self.flow)

    def new_flow(self, source: socket.socket, sink: socket.socket) -> Any:
        return self.module.Flow(source.fileno(), sink.fileno(), self._stopped)

    def _stopped(self, untaken: bytes, error: int) -> None:
        self.stops.append((untaken, error))
        self.on_stop()

    def close(self) -> None:
        self.forwarder.close()
        for sock in (self.client, self.source, self.sink, self.host):
            sock.close()


def _connection() -> tuple[socket.socket, socket.socket]:
    """The second does not block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        first = socket.create_connection(server.getsockname())
        second, _ = server.accept()
    for sock in (first, second):
        sock.settimeout(5)
    second.setblocking(False)
    return first, second


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda module: module.__name__.rpartition(".")[2])
def fixture(request: pytest.FixtureRequest) -> Iterator[Fixture]:
    made = Fixture(request.param)
    made.sink.setblocking(False)
    yield made
    made.close()


def test_bytes_pass_and_are_counted(fixture: Fixture) -> None:
    for message in (b"one", b"two"):
        fixture.client.sendall(message)
        fixture.forwarder.run()
        assert fixture.host.recv(100) == message
    assert (fixture.flow.moved_bytes, fixture.flow.running, fixture.stops) == (6, True, [])


def test_a_run_without_events_does_nothing(fixture: Fixture) -> None:
    fixture.forwarder.run()
    assert (fixture.flow.moved_bytes, fixture.flow.running, fixture.stops) == (0, True, [])


def test_a_stopped_flow_reads_nothing_until_it_starts_again(fixture: Fixture) -> None:
    fixture.client.sendall(b"data")
    fixture.forwarder.stop(fixture.flow)
    fixture.forwarder.stop(fixture.flow)  # idempotent
    fixture.forwarder.run()
    assert (fixture.flow.moved_bytes, fixture.flow.running) == (0, False)
    fixture.forwarder.start(fixture.flow)
    fixture.forwarder.run()
    assert fixture.host.recv(100) == b"data"


def test_bytes_that_the_sink_does_not_take_stop_the_flow(fixture: Fixture) -> None:
    fixture.client.setblocking(False)
    sent = 0
    while not fixture.stops:
        with suppress(BlockingIOError):
            sent += fixture.client.send(b"x" * BUFFER_BYTES)
        fixture.forwarder.run()
    [(untaken, error)] = fixture.stops
    assert 0 < len(untaken) <= BUFFER_BYTES
    assert error == 0
    assert not fixture.flow.running
    assert fixture.flow.moved_bytes + len(untaken) <= sent


def test_the_end_of_the_source_stops_the_flow_and_can_be_read_again(fixture: Fixture) -> None:
    fixture.client.sendall(b"last")
    fixture.client.shutdown(socket.SHUT_WR)
    fixture.forwarder.run()
    assert fixture.host.recv(100) == b"last"
    fixture.forwarder.run()
    assert fixture.stops == [(b"", 0)]
    assert not fixture.flow.running
    assert fixture.source.recv(1) == b""


@pytest.mark.parametrize("size", [1, BUFFER_BYTES - 1, BUFFER_BYTES, 3 * BUFFER_BYTES])
def test_bytes_before_a_reset_are_not_taken_for_all(fixture: Fixture, size: int) -> None:
    """Several reads may serve one write: the error of the last one counts."""
    fixture.client.sendall(b"x" * size)
    fixture.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    fixture.client.close()
    for _ in range(5):
        fixture.forwarder.run()
    [(_, error)] = fixture.stops
    assert error == errno.ECONNRESET


@pytest.mark.parametrize("size", [BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1])
def test_large_data_arrive_whole_with_their_end(fixture: Fixture, size: int) -> None:
    sent = bytes(range(256)) * (size // 256 + 1)
    fixture.client.sendall(sent[:size])
    fixture.client.shutdown(socket.SHUT_WR)
    received = b""
    while len(received) < size:
        fixture.forwarder.run()
        received += fixture.host.recv(BUFFER_BYTES)
    fixture.forwarder.run()
    assert received == sent[:size]
    assert fixture.stops == [(b"", 0)]
    assert fixture.flow.moved_bytes == size


def test_a_reset_of_the_source_stops_the_flow_with_its_error(fixture: Fixture) -> None:
    fixture.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    fixture.client.close()
    fixture.forwarder.run()
    assert fixture.stops == [(b"", errno.ECONNRESET)]
    assert not fixture.flow.running


def test_a_broken_sink_takes_no_bytes(fixture: Fixture) -> None:
    fixture.sink.shutdown(socket.SHUT_WR)
    fixture.client.sendall(b"data")
    fixture.forwarder.run()
    assert fixture.stops == [(b"data", 0)]
    assert fixture.flow.moved_bytes == 0


def test_a_flow_that_another_one_stops_in_the_same_run_reads_nothing(fixture: Fixture) -> None:
    """Its sockets may be closed by then, and their descriptors belong to other connections."""
    back = fixture.new_flow(fixture.sink, fixture.source)
    fixture.forwarder.start(back)
    for sock in (fixture.client, fixture.host):
        sock.shutdown(socket.SHUT_WR)

    def stop_both() -> None:
        fixture.forwarder.stop(fixture.flow)
        fixture.forwarder.stop(back)

    fixture.on_stop = stop_both
    fixture.forwarder.run()
    assert fixture.stops == [(b"", 0)]


def test_an_event_loop_can_watch_the_forwarder(fixture: Fixture) -> None:
    poll = select.poll()
    poll.register(fixture.forwarder.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    fixture.client.sendall(b"data")
    assert poll.poll(5000)
    fixture.forwarder.run()
    assert poll.poll(0) == []


def test_an_end_that_comes_after_the_bytes_stops_the_flow(fixture: Fixture) -> None:
    fixture.client.sendall(b"last")
    fixture.forwarder.run()
    fixture.client.shutdown(socket.SHUT_WR)
    fixture.forwarder.run()
    assert fixture.host.recv(100) == b"last"
    assert fixture.stops == [(b"", 0)]


def test_urgent_data_does_not_hold_back_the_bytes_around_it(fixture: Fixture) -> None:
    """A read ends before an urgent byte, although more bytes have arrived. The byte itself is dropped."""
    fixture.client.sendall(b"before ")
    fixture.client.send(b"!", socket.MSG_OOB)
    fixture.client.sendall(b"after")
    received = b""
    while len(received) < len(b"before after"):
        fixture.forwarder.run()
        received += fixture.host.recv(100)
    assert received == b"before after"
    assert fixture.flow.running


def test_all_of_more_sources_than_one_run_reads_are_read(fixture: Fixture) -> None:
    with ExitStack() as stack:
        others = [_connection() for _ in range(70)]
        for client, source in others:
            stack.enter_context(client)
            stack.enter_context(source)
            fixture.forwarder.start(fixture.new_flow(source, fixture.sink))
            client.sendall(b"x")
        received = b""
        while len(received) < len(others):
            fixture.forwarder.run()
            received += fixture.host.recv(100)
        assert received == b"x" * len(others)


def test_a_run_ends_although_bytes_arrive_all_the_time(fixture: Fixture) -> None:
    """Whatever it forwards comes back to another of its sources. Others of the event loop have their turn."""
    rings = [_connection() for _ in range(2)]
    flows = []
    for ring in rings:
        for sock, other in (ring, ring[::-1]):
            sock.setblocking(False)
            flows.append(fixture.new_flow(sock, sock))
            fixture.forwarder.start(flows[-1])
            other.send(b"x")
    fixture.forwarder.run()
    fixture.forwarder.run()
    assert all(flow.running and flow.moved_bytes > 2 for flow in flows)
    for sock in (sock for ring in rings for sock in ring):
        sock.close()


def test_an_exception_of_one_flow_does_not_hold_back_another(fixture: Fixture) -> None:
    def fail() -> None:
        raise ValueError("of on_stop")

    fixture.on_stop = fail
    other_client, other_source = _connection()
    with other_client, other_source:
        other = fixture.new_flow(other_source, fixture.sink)
        fixture.forwarder.start(other)
        fixture.client.shutdown(socket.SHUT_WR)
        other_client.sendall(b"data")
        with pytest.raises(ValueError, match="of on_stop"):
            fixture.forwarder.run()
        fixture.forwarder.run()
        assert fixture.host.recv(100) == b"data"
        assert (other.running, fixture.flow.running) == (True, False)
