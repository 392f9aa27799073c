"""How streams end: TCP proxies with plain and TLS on either side, and tunnels, compared with Envoy's."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pytest
import trustme

from tests.interop.parity.conftest import proxy_command
from tests.support.processes import child, free_port
from tests.support.stream_peer import (
    DEADLINE_S,
    END,
    RESET,
    SMALL_BUFFER_BYTES,
    Seen,
    StreamHost,
    StreamPeer,
    connect_stream,
)
from tests.support.tcp_sockets import other_end

BOOTSTRAP = Template(Path(__file__).with_name("tcp_bootstrap.yaml").read_text())
LISTENERS = (
    *("plain_to_plain", "tls_to_plain", "plain_to_tls", "tls_to_tls", "plain_to_other"),
    *("impatient", "http", "https", "declared_http", "by_name"),
)
PROXIES = ("envoy", "sidecar")
LARGE = bytes(range(256)) * 12_000  # more than the kernel and a proxy hold between two small windows
IDLE_TIMEOUT_S = 0.5  # of the listener `impatient`
CONNECT = b"CONNECT tunnel.test:443 HTTP/1.1\r\nhost: tunnel.test:443\r\n\r\n"
UPGRADE = (
    b"GET %b HTTP/1.1\r\nhost: tunnel.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """From a client to a host: through a TCP proxy, or through a tunnel that ``request`` opens."""

    listener: str
    host: str = "plain"
    request: bytes = b""
    ask: bytes = b""  # the first bytes; the ending reads the answer

    @property
    def secured(self) -> bool:
        return self.listener in ("tls_to_plain", "tls_to_tls", "https")


TCP = {
    "plain to plain": Way(listener="plain_to_plain"),
    "TLS to plain": Way(listener="tls_to_plain"),
    "plain to TLS": Way(listener="plain_to_tls", host="tls"),
    "TLS to TLS": Way(listener="tls_to_tls", host="tls"),
}
TUNNELS = {
    "CONNECT": Way(listener="http", request=CONNECT),
    "CONNECT over TLS": Way(listener="https", request=CONNECT),
    "WebSocket": Way(listener="http", request=UPGRADE % b"/"),
    "WebSocket over TLS": Way(listener="https", request=UPGRADE % b"/"),
    "WebSocket to TLS": Way(listener="http", host="tls", request=UPGRADE % b"/secured"),
}


Ending = Callable[[StreamPeer, StreamPeer], tuple[Seen, Seen]]


class Streams:
    """Both proxies, and the hosts that they connect to."""

    def __init__(self, ports: dict[str, dict[str, int]], hosts: dict[str, StreamHost], trust: ssl.SSLContext):
        self._ports = ports
        self._hosts = hosts
        self._trust = trust

    def begin(self, proxy: str, listener: str, first_bytes: bytes) -> StreamPeer:
        """A connection whose first bytes say what it is."""
        client = connect_stream(self._ports[proxy][listener])
        client.send(first_bytes)
        return client

    def accept(self) -> Future[StreamPeer]:
        """The next bytes that reach the plain host."""
        return self._hosts["plain"].accept()

    def open(self, proxy: str, way: Way, stack: ExitStack) -> tuple[StreamPeer, StreamPeer]:
        """A client and the host that it has reached, both of small windows."""
        accepting = self._hosts[way.host].accept(receive_buffer_bytes=SMALL_BUFFER_BYTES)
        trust = self._trust if way.secured else None
        client = connect_stream(
            self._ports[proxy][way.listener], trust, receive_buffer_bytes=SMALL_BUFFER_BYTES
        )
        stack.enter_context(client)
        if way.request or way.ask:
            client.send(way.request or way.ask)
        host = stack.enter_context(accepting.result())
        if way.request.startswith(b"GET"):
            host.receive_head()
            host.send(SWITCH)
        if way.request:
            client.receive_head()
        return client, host

    def see(self, proxy: str, way: Way, ending: Ending) -> str:
        """The bytes and ends that the client and the host saw."""
        with ExitStack() as stack:
            return str(ending(*self.open(proxy, way, stack)))


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Streams]:
    folder = tmp_path_factory.mktemp("streams")
    authority = trustme.CA()
    certificate = authority.issue_cert("streams.test")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(serving)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname = False
    authority.configure_trust(trust)
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    with ExitStack() as stack:
        hosts = {"plain": StreamHost(), "tls": StreamHost(serving)}
        for host in hosts.values():
            stack.callback(host.close)
        ports = {name: {listener: free_port() for listener in LISTENERS} for name in PROXIES}
        for name, other in zip(PROXIES, reversed(PROXIES), strict=True):
            file = folder / f"{name}.yaml"
            file.write_text(
                BOOTSTRAP.substitute(
                    ports[name],
                    admin=free_port(),
                    certificate=chain,
                    key=key,
                    plain_host=hosts["plain"].port,
                    tls_host=hosts["tls"].port,
                    other_proxy=ports[other]["tls_to_plain"],
                )
            )
            process = stack.enter_context(child(proxy_command(name, file), folder / f"{name}.log"))
            process.wait_for(lambda name=name: "by_name" in _listening(ports[name]), f"{name} listens")
        yield Streams(ports, hosts, trust)


def _listening(ports: dict[str, int]) -> set[str]:
    listening = {
        line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line
    }
    return {name for name, port in ports.items() if f"0100007F:{port:04X}" in listening}


def until_there_is_no_room(reader: StreamPeer) -> None:
    """Waits until the proxy has bytes for which the reader has no room."""
    end_s = time.monotonic() + DEADLINE_S
    while not other_end(reader.socket).probes_closed_window:
        assert time.monotonic() < end_s, "the reader's window stays open"
        time.sleep(0.002)


def client_ends_first(client: StreamPeer, host: StreamPeer) -> tuple[Seen, Seen]:
    client.send(b"question")
    client.end()
    by_host = host.drain()
    host.send(b"answer")
    host.close()
    return client.drain(), by_host


def host_ends_first(client: StreamPeer, host: StreamPeer) -> tuple[Seen, Seen]:
    host.send(b"greeting")
    host.end()
    by_client = client.drain()
    client.send(b"a last word")
    client.close()
    return by_client, host.drain()


def read_and_pause(reader: StreamPeer) -> bytes:
    first = reader.receive()
    until_there_is_no_room(reader)
    return first


def read_slowly(reader: StreamPeer) -> bytes:
    """For longer than the idle timeout, but with no pause of that length."""
    received = b""
    end_s = time.monotonic() + 2 * IDLE_TIMEOUT_S
    while time.monotonic() < end_s:
        received += reader.receive_exactly(40_000)
        until_there_is_no_room(reader)
    return received


def pass_much(sender: StreamPeer, reader: StreamPeer, begin: Callable[[StreamPeer], bytes]) -> Seen:
    """The reader reads the first bytes with `begin`."""
    with ThreadPoolExecutor(1) as meanwhile:
        sent = meanwhile.submit(lambda: (sender.send(LARGE), sender.end()))
        first = begin(reader)
        rest = reader.drain()
        sent.result()
    return Seen(first + rest.data, rest.how)


def host_sends_much_and_closes(client: StreamPeer, host: StreamPeer) -> tuple[Seen, Seen]:
    by_client = pass_much(host, client, read_and_pause)
    client.close()
    return by_client, host.drain()


def client_sends_much_and_closes(client: StreamPeer, host: StreamPeer) -> tuple[Seen, Seen]:
    by_host = pass_much(client, host, read_and_pause)
    host.close()
    return client.drain(), by_host


def client_ends_and_is_answered_at_length(client: StreamPeer, host: StreamPeer) -> tuple[Seen, Seen]:
    client.send(b"question")
    client.end()
    by_host = host.drain()
    with ThreadPoolExecutor(1) as meanwhile:
        sent = meanwhile.submit(lambda: (host.send(LARGE), host.close()))
        by_client = client.drain()
        sent.result()
    return by_client, by_host


def host_resets(client: StreamPeer, host: StreamPeer) -> tuple[Seen, Seen]:
    host.send(b"x" * 100_000)
    received = client.receive_exactly(100_000)
    host.reset()
    rest = client.drain()
    return Seen(received + rest.data, rest.how), Seen(b"", RESET)


def client_resets(client: StreamPeer, host: StreamPeer) -> tuple[Seen, Seen]:
    client.send(b"x" * 100_000)
    received = host.receive_exactly(100_000)
    client.reset()
    rest = host.drain()
    return Seen(b"", RESET), Seen(received + rest.data, rest.how)


ENDINGS: dict[str, Ending] = {
    "client ends first": client_ends_first,
    "client ends first, long answer": client_ends_and_is_answered_at_length,
    "host ends first": host_ends_first,
    "host sends much": host_sends_much_and_closes,
    "client sends much": client_sends_much_and_closes,
    "host resets": host_resets,
    "client resets": client_resets,
}
# In Envoy's HTTP tunnels the end of either side closes the other's connection before that side has ended, so
# bytes on their way are lost now and then; resets arrive as clean ends; and a client that pauses for longer
# than the delayed_close_timeout loses the tail. No ending is compared with Envoy's, because Envoy's vary.
OURS_IN_TUNNELS = {
    "client sends much": f"(0 bytes, then end, {len(LARGE)} bytes, then end)",
    "host sends much": f"({len(LARGE)} bytes, then end, 0 bytes, then end)",
    "host ends first": "(8 bytes, then end, 11 bytes, then end)",
    "client ends first": "(6 bytes, then end, 8 bytes, then end)",
    "client ends first, long answer": f"({len(LARGE)} bytes, then end, 8 bytes, then end)",
    "host resets": "(100000 bytes, then reset, 0 bytes, then reset)",
    "client resets": "(0 bytes, then reset, 100000 bytes, then reset)",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("way", TCP)
def test_tcp_proxy(streams: Streams, way: str, ending: str) -> None:
    envoys, ours = (streams.see(proxy, TCP[way], ENDINGS[ending]) for proxy in PROXIES)
    assert "cut" not in envoys
    assert ours == envoys


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("first", PROXIES)
def test_hop_between_the_two_proxies_with_tls_between_them(streams: Streams, first: str, ending: str) -> None:
    through_both = streams.see(first, Way(listener="plain_to_other"), ENDINGS[ending])
    assert through_both == streams.see("envoy", TCP["plain to plain"], ENDINGS[ending])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("way", TUNNELS)
def test_tunnel(streams: Streams, way: str, ending: str) -> None:
    assert streams.see("sidecar", TUNNELS[way], ENDINGS[ending]) == OURS_IN_TUNNELS[ending]


def reads_slowly(client: StreamPeer, host: StreamPeer) -> tuple[Seen, Seen]:
    by_client = pass_much(host, client, read_slowly)
    client.end()
    return by_client, host.drain()


def reads_too_late(client: StreamPeer, host: StreamPeer) -> tuple[Seen, Seen]:
    """After the proxy has closed the connection, because it was idle for too long."""

    def send_until_closed() -> None:
        with suppress(ConnectionError):
            while True:  # the kernel may hold more than 12 MB on the way
                host.send(LARGE)

    with ThreadPoolExecutor(1) as meanwhile:
        sent = meanwhile.submit(send_until_closed)
        client.receive()
        sent.result()
        rest = client.drain()
    return Seen(b"", rest.how), Seen(b"", END)


def test_slow_reader_of_a_connection_with_an_idle_timeout(streams: Streams) -> None:
    way = Way(listener="impatient")
    envoys, ours = (streams.see(proxy, way, reads_slowly) for proxy in PROXIES)
    assert ours == envoys == f"({len(LARGE)} bytes, then end, 0 bytes, then end)"


def test_reader_that_pauses_for_longer_than_the_idle_timeout(streams: Streams) -> None:
    way = Way(listener="impatient")
    assert streams.see("envoy", way, reads_too_late) == "(0 bytes, then end, 0 bytes, then end)"
    ours = streams.see("sidecar", way, reads_too_late)
    assert ours == "(0 bytes, then reset, 0 bytes, then end)", (
        "bytes were dropped: it must not look like an end"
    )


def answers_until_it_ends(how: Callable[[StreamPeer], None]) -> Ending:
    def answer(client: StreamPeer, host: StreamPeer) -> tuple[Seen, Seen]:
        host.receive_head()
        host.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"x" * 1000)
        client.receive_head()
        client.receive_exactly(1000)
        how(host)
        rest = client.drain()
        return Seen(b"", "complete" if rest.data.endswith(b"0\r\n\r\n") else "incomplete"), Seen(b"", END)

    return answer


@pytest.mark.parametrize(("host", "path"), [("plain", b"/"), ("tls", b"/secured")])
def test_body_that_ends_with_the_hosts_connection(streams: Streams, host: str, path: bytes) -> None:
    """Envoy passes a reset on as the body's end."""
    way = Way(
        listener="http", host=host, ask=b"GET %b HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n" % path
    )
    for proxy, after_reset in (("envoy", "complete"), ("sidecar", "incomplete")):
        assert "then complete" in streams.see(proxy, way, answers_until_it_ends(StreamPeer.close))
        assert f"then {after_reset}" in streams.see(proxy, way, answers_until_it_ends(StreamPeer.reset))


def client_hello(*protocols: str) -> bytes:
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="streams.test").do_handshake()
    return outgoing.read()


def in_records(record: bytes, size: int) -> bytes:
    """The same handshake message in records of ``size`` bytes."""
    pieces = [record[start : start + size] for start in range(5, len(record), size)]
    return b"".join(record[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("size", [1, 5, 20, 10_000])
def test_client_hello_in_many_records_is_one(streams: Streams, proxy: str, size: int) -> None:
    hello = in_records(client_hello(), size)
    accepted = streams.accept()
    with streams.begin(proxy, "by_name", hello), accepted.result() as host:
        assert host.receive_exactly(len(hello)) == hello


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("protocols", [(), ("h2", "http/1.1")])
def test_port_that_says_http_does_not_take_the_applications_own_tls(
    streams: Streams, proxy: str, protocols: tuple[str, ...]
) -> None:
    with streams.begin(proxy, "declared_http", client_hello(*protocols)) as client:
        seen = client.drain()
        assert seen.data == b""
        assert seen.how in (END, RESET)
    accepted = streams.accept()
    with streams.begin(proxy, "declared_http", client_hello("istio")), accepted.result() as host:
        assert host.receive()[:1] == b"\x16"
    accepted = streams.accept()
    request = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n"
    with streams.begin(proxy, "declared_http", request), accepted.result() as host:
        assert host.receive_head().startswith(b"GET / HTTP/1.1")
