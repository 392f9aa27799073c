"""Mutual TLS between sidecars with real sockets: accepted and refused peers, their identities, and
rotations."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
import ssl
import time
from collections.abc import Callable

import pytest

from protos.spiffe import SpiffeId
from sidecar.back_off import BackOff
from sidecar.config.listener import FilterChainMatch, Listener
from sidecar.config.tls import DownstreamTls, SanMatch, SanMatchKind
from sidecar.errors import IdentityError
from sidecar.identity.contexts import TlsContexts
from sidecar.identity.rotation import RotationPolicy, SvidRotation
from sidecar.identity.svid import Svid
from sidecar.listener.manager import ListenerSettings, ListenerState
from tests.support.identities import (
    MESH_CLIENT,
    MESH_SERVER,
    RATINGS,
    REVIEWS,
    TestTrustDomain,
    key_here,
    mesh_parameters,
)
from tests.support.listening import LOOPBACK, Harness, chain, eventually, listening, snapshot
from tests.support.tcp_sockets import is_read_by_peer

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

STATS = "127.0.0.1_0"

STRICT = Listener(
    name="inbound", address=LOOPBACK, filter_chains=(chain("mesh", tls=MESH_SERVER),), tls_inspector=True
)
# As Istio builds it: mesh TLS by its ALPN, the application's own TLS passed on as it is, and plaintext.
PERMISSIVE = Listener(
    name="inbound",
    address=LOOPBACK,
    filter_chains=(
        chain(
            "mesh",
            FilterChainMatch(transport_protocol="tls", application_protocols=("istio",)),
            MESH_SERVER,
        ),
        chain("app-tls", FilterChainMatch(transport_protocol="tls")),
        chain("plaintext", FilterChainMatch(transport_protocol="raw_buffer")),
    ),
    tls_inspector=True,
)


def show_in(contexts: TlsContexts) -> Callable[[Svid], None]:
    def show(svid: Svid) -> None:
        contexts.use_svid(svid.pem())

    return show


async def connect(
    harness: Harness, context: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    name = "reviews" if context is not None else None
    return await asyncio.open_connection("127.0.0.1", harness.port(), ssl=context, server_hostname=name)


async def is_refused(harness: Harness, context: ssl.SSLContext | None) -> bool:
    """TLS 1.3 clients learn of a refused certificate only with the server's first answer."""
    try:
        reader, writer = await connect(harness, context)
    except OSError:
        return True
    try:
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        return await asyncio.wait_for(reader.read(100), 5) == b""
    except OSError:
        return True
    finally:
        writer.close()


async def test_strict_serves_a_workload_and_knows_who_it_is() -> None:
    domain = TestTrustDomain()
    client = domain.contexts(RATINGS)
    async with listening(STRICT, contexts=domain.contexts(REVIEWS)) as harness:
        reader, writer = await connect(harness, client.client(MESH_CLIENT))
        peer = writer.get_extra_info("ssl_object")
        assert client.verify_server(MESH_CLIENT, peer) == str(REVIEWS)
        writer.write(b"x")
        assert await reader.readexactly(6) == b"mesh:x"
        (connection,) = harness.handlers["mesh"].connections
        assert connection.peer_id == str(RATINGS)
        assert connection.local_id == str(REVIEWS)
        assert client.svid is not None
        shown = ssl.PEM_cert_to_DER_cert(client.svid.chain.decode())
        assert connection.peer_certificate_sha256 == hashlib.sha256(shown).hexdigest()
        assert connection.peer_subject == ""
        assert (connection.tls_version, connection.alpn) == ("TLSv1.3", "istio")
        assert harness.stats.listener(STATS).ssl__handshake == 1
        writer.close()


async def test_strict_refuses_a_client_without_certificate() -> None:
    domain = TestTrustDomain()
    anonymous = ssl.create_default_context(cadata=domain.root_pem)
    anonymous.check_hostname = False
    async with listening(STRICT, contexts=domain.contexts()) as harness:
        assert await is_refused(harness, anonymous)
        assert harness.stats.listener(STATS).ssl__fail_verify_no_cert == 1
        assert not harness.handlers["mesh"].connections


async def test_strict_refuses_plaintext() -> None:
    async with listening(STRICT, contexts=TestTrustDomain().contexts()) as harness:
        assert await is_refused(harness, None)
        assert harness.stats.listener(STATS).ssl__connection_error == 1
        assert not harness.handlers["mesh"].connections


async def test_a_certificate_of_another_authority_is_refused() -> None:
    trusting = TestTrustDomain().contexts(RATINGS).client(MESH_CLIENT)
    trusting.verify_mode = ssl.CERT_NONE  # the server's judgement alone is tested
    async with listening(STRICT, contexts=TestTrustDomain().contexts()) as harness:
        assert await is_refused(harness, trusting)
        assert harness.stats.listener(STATS).ssl__fail_verify_error == 1
        assert not harness.handlers["mesh"].connections


async def test_another_trust_domain_is_refused_though_the_same_root_signed_it() -> None:
    domain = TestTrustDomain()
    foreign = domain.contexts(SpiffeId("elsewhere.org", "default", "ratings"))
    async with listening(STRICT, contexts=domain.contexts()) as harness:
        assert await is_refused(harness, foreign.client(MESH_CLIENT))
        assert harness.stats.listener(STATS).ssl__fail_verify_san == 1
        assert not harness.handlers["mesh"].connections


async def test_an_expired_client_certificate_is_refused() -> None:
    domain = TestTrustDomain()
    old = TestTrustDomain(RATINGS, clock=lambda: time.time() - 7200, sharing=domain)
    async with listening(STRICT, contexts=domain.contexts()) as harness:
        assert await is_refused(harness, old.contexts().client(MESH_CLIENT))
        assert harness.stats.listener(STATS).ssl__fail_verify_error == 1


async def test_a_trust_domain_alias_is_let_in_by_the_names_that_are_listed() -> None:
    domain = TestTrustDomain()
    alias = SanMatch(kind=SanMatchKind.PREFIX, value="spiffe://old.domain/", san_type="URI")
    tls = DownstreamTls(parameters=mesh_parameters(alias), require_client_certificate=True)
    listener = dataclasses.replace(STRICT, filter_chains=(chain("mesh", tls=tls),))
    migrated = domain.contexts(SpiffeId("old.domain", "default", "ratings"))
    async with listening(listener, contexts=domain.contexts()) as harness:
        assert not await is_refused(harness, migrated.client(MESH_CLIENT))
        assert await is_refused(harness, domain.contexts(RATINGS).client(MESH_CLIENT))


async def test_a_server_that_is_not_who_was_called_is_found_out() -> None:
    domain = TestTrustDomain()
    client = domain.contexts(RATINGS)
    wanted = SanMatch(kind=SanMatchKind.EXACT, value=str(REVIEWS), san_type="URI")
    tls = dataclasses.replace(MESH_CLIENT, parameters=mesh_parameters(wanted))
    impostor = domain.contexts(SpiffeId("cluster.local", "default", "details"))
    async with listening(STRICT, contexts=impostor) as harness:
        _, writer = await connect(harness, client.client(tls))
        with pytest.raises(IdentityError, match=r"sa/details"):
            client.verify_server(tls, writer.get_extra_info("ssl_object"))
        writer.close()


async def test_permissive_tells_mesh_tls_the_applications_own_tls_and_plaintext_apart() -> None:
    domain = TestTrustDomain()
    own = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        own.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="app").do_handshake()
    hello = outgoing.read()
    async with listening(PERMISSIVE, contexts=domain.contexts(REVIEWS)) as harness:
        mesh_reader, mesh = await connect(harness, domain.contexts(RATINGS).client(MESH_CLIENT))
        mesh.write(b"x")
        assert await mesh_reader.readexactly(6) == b"mesh:x"
        app_reader, app = await connect(harness)
        app.write(hello)
        assert await app_reader.readexactly(8 + len(hello)) == b"app-tls:" + hello
        plain_reader, plain = await connect(harness)
        plain.write(b"GET / HTTP/1.1\r\n")
        assert await plain_reader.readexactly(26) == b"plaintext:GET / HTTP/1.1\r\n"
        assert harness.handlers["mesh"].connections[0].peer_id == str(RATINGS)
        assert harness.handlers["app-tls"].connections[0].server_name == "app"
        assert harness.handlers["plaintext"].connections[0].peer_id == ""
        for writer in (mesh, app, plain):
            writer.close()


async def test_a_handshake_that_is_not_finished_is_timed_out() -> None:
    settings = ListenerSettings(handshake_timeout_s=0.1)
    unsniffed = dataclasses.replace(STRICT, tls_inspector=False)
    async with listening(unsniffed, contexts=TestTrustDomain().contexts(), settings=settings) as harness:
        reader, writer = await connect(harness)
        writer.write(b"\x16\x03\x01")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await eventually(lambda: harness.stats.listener(STATS).ssl__connection_error == 1)
        await eventually(lambda: harness.manager.active_connections == 0)
        writer.close()


async def test_time_for_a_handshake_starts_with_its_first_byte() -> None:
    domain = TestTrustDomain()
    settings = ListenerSettings(handshake_timeout_s=0.5)
    unsniffed = dataclasses.replace(STRICT, tls_inspector=False)
    async with listening(unsniffed, contexts=domain.contexts(REVIEWS), settings=settings) as harness:
        _, early = await connect(harness)
        await eventually(lambda: harness.manager.active_connections == 1)
        reader, slow = await connect(harness)
        slow.write(b"\x16\x03\x01")
        assert await asyncio.wait_for(reader.read(), 5) == b""  # the one that was opened before is older
        await early.start_tls(domain.contexts(RATINGS).client(MESH_CLIENT), server_hostname="reviews")
        for writer in (early, slow):
            writer.close()


async def test_handshake_that_is_not_begun_is_waited_for_as_long_as_an_idle_connection() -> None:
    chains = tuple(
        dataclasses.replace(chain, filter=dataclasses.replace(chain.filter, idle_timeout_s=0.1))
        for chain in STRICT.filter_chains
    )
    unsniffed = dataclasses.replace(STRICT, tls_inspector=False, filter_chains=chains)
    async with listening(unsniffed, contexts=TestTrustDomain().contexts()) as harness:
        reader, writer = await connect(harness)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await eventually(lambda: harness.manager.active_connections == 0)
        writer.close()


@pytest.mark.parametrize("tls_inspector", [True, False])
async def test_draining_does_not_wait_for_clients_that_never_speak(
    tls_inspector: bool,
) -> None:
    settings = ListenerSettings(drain_timeout_s=0.05)
    patient = dataclasses.replace(STRICT, tls_inspector=tls_inspector, listener_filters_timeout_s=0.0)
    async with listening(patient, contexts=TestTrustDomain().contexts(), settings=settings) as harness:
        before = await connect(harness)
        await eventually(lambda: harness.manager.active_connections == 1)
        harness.manager.drain()
        after = await connect(harness)
        for reader, writer in (before, after):
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()


@pytest.mark.parametrize("received", [b"", b"\x16\x03\x01"])
async def test_closing_ends_an_active_handshake(received: bytes) -> None:
    unsniffed = dataclasses.replace(STRICT, tls_inspector=False)
    async with listening(unsniffed, contexts=TestTrustDomain().contexts()) as harness:
        reader, writer = await connect(harness)
        await eventually(lambda: harness.manager.active_connections == 1)
        writer.write(received)
        await eventually(lambda: is_read_by_peer(writer))
        await harness.manager.close()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_listener_with_mtls_warms_until_the_certificate_is_here() -> None:
    contexts = TlsContexts()
    domain = TestTrustDomain()
    async with listening(contexts=contexts) as harness:
        assert not harness.manager.update(snapshot(STRICT))
        assert [status.state for status in harness.manager.statuses()] == [ListenerState.WARMING]
        contexts.use_svid(domain.svid().pem())
        harness.manager.identity_ready()
        assert not await is_refused(harness, domain.contexts(RATINGS).client(MESH_CLIENT))


async def test_rotation_at_half_life_under_load_drops_no_request() -> None:
    """Certificates of three seconds on both sides; a client that keeps its connection, and others that make a
    new one for each request."""
    server_domain = TestTrustDomain(REVIEWS, lifetime_s=3.0)
    client_domain = TestTrustDomain(RATINGS, lifetime_s=3.0, sharing=server_domain)
    server, client = TlsContexts(), TlsContexts()
    policy = RotationPolicy(back_off=BackOff(base_s=0.05, max_s=60.0))
    rotations = [
        SvidRotation(
            server_domain, REVIEWS, show_in(server), new_key=key_here, policy=policy, rng=random.Random(1)
        ),
        SvidRotation(
            client_domain, RATINGS, show_in(client), new_key=key_here, policy=policy, rng=random.Random(2)
        ),
    ]
    for rotation in rotations:
        await rotation.obtain_first()
    tasks = [asyncio.create_task(rotation.run()) for rotation in rotations]
    answered = 0
    stop = asyncio.Event()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(6), 5) == b"mesh:x"
        answered += 1

    async with listening(STRICT, contexts=server) as harness:

        async def one_connection() -> None:
            reader, writer = await connect(harness, client.client(MESH_CLIENT))
            while not stop.is_set():
                await ask(reader, writer)
                await asyncio.sleep(0.005)
            writer.close()

        async def a_connection_each() -> None:
            while not stop.is_set():
                reader, writer = await connect(harness, client.client(MESH_CLIENT))
                assert client.verify_server(MESH_CLIENT, writer.get_extra_info("ssl_object")) == str(REVIEWS)
                await ask(reader, writer)
                writer.close()
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as group:
            group.create_task(one_connection())
            for _ in range(4):
                group.create_task(a_connection_each())
            await eventually(lambda: min(rotation.renewals for rotation in rotations) >= 4, deadline_s=20)
            stop.set()
        assert answered > 200
        assert harness.stats.listener(STATS).ssl__connection_error == 0
        assert harness.stats.listener(STATS).ssl__fail_verify_error == 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
