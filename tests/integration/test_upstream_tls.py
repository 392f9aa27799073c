"""Connections to hosts over TLS: trusted and refused hosts, and requests during a rotation."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from sidecar.config.cluster import ClusterConfig, TransportSocketMatch
from sidecar.config.tls import TlsParameters, UpstreamTls
from sidecar.errors import IdentityError, UpstreamConnectError, UpstreamResetError
from sidecar.http.message import Response
from sidecar.upstream.cluster import ClusterConfig as RunningCluster
from sidecar.upstream.load_balancer.context import PickContext
from sidecar.upstream.pool.pooled_connection import Lease
from tests.support.clusters import at_port, cluster_manager, static_cluster
from tests.support.flaky_upstream import FlakyUpstream, flaky_upstream
from tests.support.listening import as_soon_as, eventually
from tests.support.requests import make_request

PEER = "reviews.default"  # this authority signs DNS names alone
TLS = UpstreamTls(parameters=TlsParameters(), sni="reviews.default")


class Identity:
    """A `ClientTls` whose certificate the test rotates, and whose opinion of peers it sets."""

    def __init__(self, authority: trustme.CA) -> None:
        self._authority = authority
        self.rotate()
        self.refusal: str | None = None
        self.contexts_taken = 0  # one for each dial
        self.resumed: list[bool] = []  # for each peer that was verified

    def rotate(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self._authority.configure_trust(self.context)

    def client(self, tls: UpstreamTls) -> ssl.SSLContext:
        self.contexts_taken += 1
        return self.context

    def verify_server(self, tls: UpstreamTls, peer: ssl.SSLObject, name: str | None) -> str:
        self.resumed.append(bool(peer.session_reused))
        if self.refusal is not None:
            raise IdentityError(self.refusal)
        certificate = peer.getpeercert()
        assert certificate is not None
        return str(certificate["subjectAltName"][0][1])  # type: ignore[index]  # of one name


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def identity(authority: trustme.CA) -> Identity:
    return Identity(authority)


@pytest.fixture
async def upstream(authority: trustme.CA) -> AsyncIterator[FlakyUpstream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(PEER).configure_cert(context)
    async with flaky_upstream("secured", tls=context) as started:
        yield started


async def connection_to(cluster: RunningCluster) -> Lease:
    host = cluster.pick(PickContext())
    assert host is not None
    return host.pool.checkout() or await host.pool.acquire()


async def ask(cluster: RunningCluster) -> Response:
    lease = await connection_to(cluster)
    response: Response = await lease.connection.codec.send(make_request())
    return response


def secured(upstream: FlakyUpstream, tls: UpstreamTls | None = TLS) -> ClusterConfig:
    return static_cluster(upstream.endpoint, tls=tls, connect_timeout_s=2.0)


async def test_the_peer_is_verified_and_its_id_is_kept(upstream: FlakyUpstream, identity: Identity) -> None:
    async with cluster_manager(secured(upstream), tls=identity) as manager:
        cluster = manager.get("up")
        lease = await connection_to(cluster)
        assert lease.connection.peer_id == PEER
        assert (await lease.connection.codec.send(make_request())).status == 200
        assert cluster.stats.ssl__handshake == 1


async def test_a_peer_with_another_identity_is_refused(upstream: FlakyUpstream, identity: Identity) -> None:
    identity.refusal = "no name of the peer matches"
    async with cluster_manager(secured(upstream), tls=identity) as manager:
        cluster = manager.get("up")
        with pytest.raises(UpstreamConnectError, match="TLS_error: no name of the peer"):
            await connection_to(cluster)
        assert cluster.stats.ssl__fail_verify_san == cluster.stats.upstream_cx_connect_fail == 1
        assert cluster.stats.upstream_cx_active == cluster.breaker.connections.count == 0
        await eventually(lambda: not upstream.connections)


async def test_a_peer_of_another_authority_is_refused(upstream: FlakyUpstream) -> None:
    async with cluster_manager(secured(upstream), tls=Identity(trustme.CA())) as manager:
        with pytest.raises(UpstreamConnectError, match="TLS_error: CERTIFICATE_VERIFY_FAILED"):
            await connection_to(manager.get("up"))
        stats = manager.get("up").stats
        assert (stats.ssl__fail_verify_error, stats.ssl__connection_error) == (1, 0)


async def test_without_a_certificate_no_host_is_dialed(upstream: FlakyUpstream) -> None:
    class NotYet(Identity):
        def client(self, tls: UpstreamTls) -> ssl.SSLContext:
            raise IdentityError("the workload has no certificate yet")

    async with cluster_manager(secured(upstream), tls=NotYet(trustme.CA())) as manager:
        with pytest.raises(UpstreamConnectError, match="no certificate yet"):
            await connection_to(manager.get("up"))
    assert upstream.connections_total == 0


async def test_a_host_that_does_not_shake_hands_runs_into_the_connect_timeout(identity: Identity) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        config = static_cluster(at_port(port), tls=TLS, connect_timeout_s=0.1)
        async with cluster_manager(config, tls=identity) as manager:
            with pytest.raises(UpstreamConnectError, match="connection timeout"):
                await connection_to(manager.get("up"))
            assert manager.get("up").stats.upstream_cx_connect_timeout == 1


async def test_endpoints_with_a_sidecar_get_tls_and_others_plaintext(
    upstream: FlakyUpstream, identity: Identity
) -> None:
    matches = (
        TransportSocketMatch(name="tlsMode-istio", match={"tlsMode": "istio"}, tls=TLS),
        TransportSocketMatch(name="tlsMode-disabled", match={}, tls=None),
    )
    async with flaky_upstream("plain") as plain:
        config = static_cluster(
            at_port(upstream.port, tls_match={"tlsMode": "istio"}),
            at_port(plain.port),
            transport_socket_matches=matches,
        )
        async with cluster_manager(config, tls=identity) as manager:
            bodies = {(await ask(manager.get("up"))).body.whole for _ in range(2)}
    assert bodies == {b"secured", b"plain"}


async def test_a_rotation_lets_requests_finish_and_closes_idle_connections(
    upstream: FlakyUpstream, identity: Identity
) -> None:
    async with cluster_manager(secured(upstream), tls=identity) as manager:
        cluster = manager.get("up")
        idle, _ = await asyncio.gather(connection_to(cluster), connection_to(cluster))
        (host,) = cluster.hosts.values()
        idle.give_back()
        release = upstream.hold()
        busy = asyncio.create_task(ask(cluster))
        await eventually(lambda: len(upstream.exchanges) == 1)
        identity.rotate()
        manager.renew_tls()
        fresh = asyncio.create_task(ask(cluster))
        await eventually(lambda: len(upstream.exchanges) == 2)
        release.set()
        assert {(await busy).status, (await fresh).status} == {200}
        current = host.pool.checkout()
        assert current is not None
        assert current.connection.secured_by is identity.context


async def test_requests_under_constant_rotation_all_succeed(
    upstream: FlakyUpstream, identity: Identity
) -> None:
    async with cluster_manager(secured(upstream), tls=identity) as manager:
        cluster = manager.get("up")

        async def client() -> None:
            for _ in range(15):
                assert (await ask(cluster)).status == 200

        clients = asyncio.gather(*(client() for _ in range(4)))
        while not clients.done():
            identity.rotate()
            manager.renew_tls()
            await asyncio.sleep(0.005)
        await clients
        assert cluster.stats.upstream_cx_total > 4
        assert cluster.stats.upstream_cx_connect_fail == 0


async def test_a_connection_that_was_being_opened_during_a_rotation_serves_one_request(
    upstream: FlakyUpstream, identity: Identity
) -> None:
    async with cluster_manager(secured(upstream), tls=identity) as manager:
        cluster = manager.get("up")
        asking = asyncio.create_task(ask(cluster))
        await as_soon_as(lambda: identity.contexts_taken == 1)  # the dial has begun, with the old context
        identity.rotate()
        manager.renew_tls()
        assert (await asking).status == 200
        await eventually(lambda: cluster.stats.upstream_cx_active == 0)


async def test_a_request_that_waits_while_the_proxy_closes_fails_with_the_reason(identity: Identity) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        config = static_cluster(at_port(server.sockets[0].getsockname()[1]), tls=TLS)
        async with cluster_manager(config, tls=identity) as manager:
            waiting = asyncio.create_task(connection_to(manager.get("up")))
            await as_soon_as(lambda: identity.contexts_taken == 1)
        with pytest.raises(UpstreamResetError, match="closing"):
            await waiting


async def test_later_connections_resume_the_session_of_the_first_until_a_rotation(
    upstream: FlakyUpstream, identity: Identity
) -> None:
    single = dataclasses.replace(secured(upstream), max_requests_per_connection=1)
    async with cluster_manager(single, tls=identity) as manager:
        cluster = manager.get("up")

        async def ask_once() -> None:
            assert await (await ask(cluster)).body.read() == b"secured"

        await ask_once()
        await ask_once()
        identity.rotate()
        await ask_once()
        await ask_once()
    assert identity.resumed == [False, True, False, True]
