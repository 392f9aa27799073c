"""Connections that begin with a PROXY header, over real sockets: from clients, and to hosts."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import trustme

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChain, FilterChainMatch, Listener
from sidecar.config.proxy_protocol import EVERY_TLV, ProxyProtocolFilter, UpstreamProxyProtocol
from sidecar.config.tls import DataSource, DownstreamTls, TlsCertificate, TlsParameters, UpstreamTls
from sidecar.identity.contexts import TlsContexts
from sidecar.observability.stats import ListenerStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.proxy_protocol import write_v1, write_v2
from tests.support.clusters import at_port, cluster_manager, static_cluster
from tests.support.listening import Harness, eventually, http, listener, listening, read_to_end, tcp

CLIENT, SERVICE = SocketAddress("192.0.2.7", 4711), SocketAddress("198.51.100.1", 443)
V1, V2 = write_v1(CLIENT, SERVICE), write_v2(CLIENT, SERVICE, [(0xEA, b"vpce")])
LOCAL = write_v2(CLIENT, SocketAddress("::1", 1))  # a header without addresses
CHAIN = FilterChain(name="c", filter=tcp("all"))


def expecting(*chains: FilterChain, header: ProxyProtocolFilter | None = None, **options: Any) -> Listener:
    return listener(*(chains or (CHAIN,)), proxy_protocol=header or ProxyProtocolFilter(), **options)


async def answer(harness: Harness, *pieces: bytes) -> bytes:
    """What a client gets that sends these pieces, and no more."""
    reader, writer = await harness.connect()
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    try:
        return await asyncio.wait_for(reader.read(100), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def counted(harness: Harness, stat_prefix: str = "") -> dict[str, object]:
    return {name: value for name, value in harness.stats.proxy_protocol(stat_prefix).items() if value}


@pytest.mark.parametrize("header", [V1, V2])
async def test_the_header_tells_the_client_and_the_destination(header: bytes) -> None:
    tlvs = ProxyProtocolFilter(tlv_types=EVERY_TLV)
    async with listening(expecting(header=tlvs)) as harness:
        assert await answer(harness, header + b"hi") == b"all:hi"
        (connection,) = harness.handlers["all"].connections
        assert (connection.remote_address, connection.destination) == (CLIENT, SERVICE)
        assert connection.direct_remote_address.host == "127.0.0.1"
        assert connection.tlvs == (((0xEA, b"vpce"),) if header is V2 else ())
        assert counted(harness) == {f"versions.v{1 if header is V1 else 2}.found": 1}


async def test_only_the_configured_tlvs_are_kept() -> None:
    async with listening(expecting()) as harness:
        await answer(harness, V2 + b"hi")
        assert harness.handlers["all"].connections[0].tlvs == ()


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", LOCAL])
async def test_a_header_without_addresses_leaves_those_of_the_connection(header: bytes) -> None:
    async with listening(expecting()) as harness:
        assert await answer(harness, header + b"hi") == b"all:hi"
        (connection,) = harness.handlers["all"].connections
        assert connection.remote_address == connection.direct_remote_address
        assert connection.original_destination is None


@pytest.mark.parametrize("header", [V1, V2])
async def test_it_may_arrive_byte_by_byte(header: bytes) -> None:
    pieces = [bytes([byte]) for byte in header]
    async with listening(expecting()) as harness:
        assert await answer(harness, *pieces, b"hi") == b"all:hi"
        assert harness.handlers["all"].connections[0].remote_address == CLIENT


async def test_a_server_that_speaks_first_does_so_after_the_header() -> None:
    async with listening(expecting(), speaks_first=True) as harness:
        assert await answer(harness, V1) == b"all speaks first\n"


async def test_the_destination_and_what_follows_choose_the_filter_chain() -> None:
    chains = (
        FilterChain(name="web", match=FilterChainMatch(destination_port=443), filter=http("web")),
        FilterChain(name="other", match=FilterChainMatch(destination_port=444), filter=http("other")),
    )
    async with listening(expecting(*chains, http_inspector=True)) as harness:
        assert await answer(harness, V1 + b"GET / HTTP/1.1\r\n") == b"web:GET / HTTP/1.1\r\n"


async def test_the_listener_of_the_destination_takes_the_connection() -> None:
    virtual = expecting(use_original_dst=True, name="virtual")
    service = listener(
        FilterChain(name="s", filter=tcp("service")), name="service", address=SERVICE, bind_to_port=False
    )
    async with listening(virtual, service) as harness:
        reader, writer = await harness.connect("virtual")
        writer.write(V1 + b"hi")
        assert await asyncio.wait_for(reader.read(100), 5) == b"service:hi"
        writer.close()


def served_by(authority: trustme.CA) -> DownstreamTls:
    issued = authority.issue_cert("a.test")
    certificate = TlsCertificate(
        certificate_chain=DataSource(inline=issued.cert_chain_pems[0].bytes()),
        private_key=DataSource(inline=issued.private_key_pem.bytes()),
    )
    return DownstreamTls(parameters=TlsParameters(certificate=certificate))


async def test_tls_follows_the_header() -> None:
    authority = trustme.CA()
    tls = served_by(authority)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with listening(expecting(FilterChain(name="c", filter=tcp("all"), tls=tls))) as harness:
        reader, writer = await harness.connect()
        writer.write(V2)
        await writer.start_tls(trust, server_hostname="a.test")
        writer.write(b"hi")
        assert await asyncio.wait_for(reader.read(100), 5) == b"all:hi"
        assert harness.handlers["all"].connections[0].remote_address == CLIENT
        writer.close()


@pytest.mark.parametrize(
    ("data", "counter"),
    [
        (b"GET / HTTP/1.1\r\n", "not_found_disallowed"),
        (b"PROXY TCP4 nobody 1.2.3.4 1 2\r\nhi", "versions.v1.error"),
        (b"PROXY " + b"x" * 200, "not_found_disallowed"),
        (V2[:12] + b"\x31" + V2[13:], "versions.v2.error"),
    ],
)
async def test_a_connection_without_a_valid_header_is_refused(data: bytes, counter: str) -> None:
    async with listening(expecting()) as harness:
        assert await answer(harness, data) == b""
        assert not harness.handlers["all"].connections
        assert counted(harness) == {counter: 1}
        sets = [counters for _, counters in harness.stats.sets() if isinstance(counters, ListenerStats)]
        assert [counters.downstream_pre_cx_active for counters in sets] == [0]


async def test_a_version_that_is_not_allowed_is_refused() -> None:
    only_v2 = ProxyProtocolFilter(versions=frozenset({2}), stat_prefix="edge")
    async with listening(expecting(header=only_v2)) as harness:
        assert await answer(harness, V1 + b"hi") == b""
        assert await answer(harness, V2 + b"hi") == b"all:hi"
        assert counted(harness, "edge") == {"versions.v1.disallowed": 1, "versions.v2.found": 1}


async def test_an_optional_header_may_be_missing() -> None:
    optional = ProxyProtocolFilter(optional=True, versions=frozenset({2}))
    async with listening(expecting(header=optional)) as harness:
        assert await answer(harness, b"P") == b"all:P"
        assert await answer(harness, V1) == b"all:" + V1
        assert await answer(harness, V2 + b"hi") == b"all:hi"
        assert counted(harness) == {"not_found_allowed": 2, "versions.v2.found": 1}


@pytest.mark.parametrize("sent", [b"", V1[:-1], V2[:-1]])
async def test_a_client_that_is_slow_or_ends_early_is_refused(sent: bytes) -> None:
    async with listening(expecting(listener_filters_timeout_s=0.01)) as harness:
        assert await answer(harness, sent) == b""
        reader, writer = await harness.connect()
        writer.write(sent)
        writer.write_eof()
        assert await read_to_end(reader) == b""
        writer.close()
        assert not harness.handlers["all"].connections


async def test_a_slow_client_may_be_served_without_a_header() -> None:
    lenient = expecting(listener_filters_timeout_s=0.01, continue_on_listener_filters_timeout=True)
    async with listening(lenient) as harness:
        assert await answer(harness, b"PROXY") == b"all:PROXY"


ADDED = UpstreamProxyProtocol(version=2, tlv_types=frozenset({4, 5}), added_tlvs=((4, b"mine"),))


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("config", "tlvs"),
    [(UpstreamProxyProtocol(version=1), ()), (ADDED, ((4, b"mine"), (5, b"passed")))],
)
async def test_a_host_learns_the_client(
    config: UpstreamProxyProtocol, tlvs: tuple[tuple[int, bytes], ...], tls: bool
) -> None:
    downstream = DownstreamConnection(
        id=1,
        remote_address=CLIENT,
        local_address=SocketAddress("10.0.0.1", 15001),
        original_destination=SERVICE,
        tlvs=((4, b"theirs"), (5, b"passed"), (6, b"kept")),
    )
    chain = FilterChain(name="c", filter=tcp("all"), tls=served_by(trustme.CA()) if tls else None)
    with_tls = UpstreamTls(parameters=TlsParameters()) if tls else None
    async with listening(expecting(chain, header=ProxyProtocolFilter(tlv_types=EVERY_TLV))) as host:
        cluster = static_cluster(at_port(host.port()), tls=with_tls, proxy_protocol=config)
        async with cluster_manager(cluster, tls=TlsContexts()) as manager:
            info = StreamInfo(downstream, 0.0, 0.0)
            connection = await manager.get("up").connect_tcp(asyncio.Protocol, info)
            connection.transport.write(b"hi")
            await eventually(lambda: bool(host.handlers["all"].connections))
            (seen,) = host.handlers["all"].connections
            assert (seen.remote_address, seen.destination, seen.tlvs) == (CLIENT, SERVICE, tlvs)
            connection.transport.close()
            connection.release()
