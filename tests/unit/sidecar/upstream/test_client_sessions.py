from __future__ import annotations

import ssl
from typing import Any, cast

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.upstream.client_sessions import ClientSessions

NOON_S = 1_800_000_000.0
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Ticket:
    def __init__(self, lifetime_s: int = 7200) -> None:
        self.has_ticket = lifetime_s > 0
        self.ticket_lifetime_hint = lifetime_s


class Handshaken:
    """A connection whose handshake is done."""

    def __init__(self, ticket: Ticket, not_after: str = "Jan  1 00:00:00 2037 GMT") -> None:
        self.session = ticket
        self.not_after = not_after

    def getpeercert(self) -> dict[str, str]:
        return {"notAfter": self.not_after}


class Scene:
    def __init__(self) -> None:
        self.now_s = NOON_S
        self.sessions = ClientSessions(lambda: self.now_s)

    def save(self, connection: Handshaken, port: int = 443) -> Any:
        self.sessions.save(key(port), CONTEXT, cast("ssl.SSLObject", connection))
        return connection.session

    def wants(self, *, reused: bool = False, context: ssl.SSLContext = CONTEXT) -> bool:
        return self.sessions.wants(key(), context, reused=reused)

    def offered(self, port: int = 443, context: ssl.SSLContext = CONTEXT) -> object:
        return self.sessions.of(key(port), context)


def key(port: int = 443) -> tuple[SocketAddress, str]:
    return SocketAddress("10.0.0.1", port), "reviews"


def test_session_is_offered_to_its_host_alone() -> None:
    scene = Scene()
    assert scene.wants()
    ticket = scene.save(Handshaken(Ticket()))
    assert scene.offered() is ticket
    assert scene.offered(port=444) is None
    assert not scene.wants(reused=True)


def test_rotation_ends_the_session() -> None:
    scene = Scene()
    scene.save(Handshaken(Ticket()))
    rotated = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert scene.offered(context=rotated) is None
    assert scene.wants(context=rotated)


@pytest.mark.parametrize(
    ("connection", "lifetime_s"),
    [
        (Handshaken(Ticket(60)), 60),
        (Handshaken(Ticket(172_800)), 3600),
        (Handshaken(Ticket(), not_after="Jan 15 08:00:30 2027 GMT"), 30),
    ],
)
def test_session_is_offered_until_its_ticket_or_its_certificate_expires(
    connection: Handshaken, lifetime_s: int
) -> None:
    scene = Scene()
    ticket = scene.save(connection)
    scene.now_s += lifetime_s - 1
    assert scene.offered() is ticket
    scene.now_s += 1
    assert scene.offered() is None
    assert scene.wants(reused=True)


def test_session_that_the_host_did_not_resume_is_replaced_but_not_for_each_connection() -> None:
    scene = Scene()
    scene.save(Handshaken(Ticket()))
    scene.now_s += 9
    assert not scene.wants(reused=False)
    scene.now_s += 1
    assert scene.wants(reused=False)


def test_session_that_was_resumed_often_is_replaced_as_soon_as_the_host_has_dropped_it() -> None:
    scene = Scene()
    scene.save(Handshaken(Ticket()))
    for _ in range(8):
        assert not scene.wants(reused=False)
        assert not scene.wants(reused=True)
    assert scene.wants(reused=False)
    scene.save(Handshaken(Ticket()))
    assert not scene.wants(reused=False)


def test_host_without_tickets_is_asked_again_after_an_hour() -> None:
    scene = Scene()
    scene.save(Handshaken(Ticket(0)))
    assert scene.offered() is None
    assert not scene.wants(reused=False)
    scene.now_s += 3600
    assert scene.wants(reused=False)


def test_only_the_latest_hosts_are_remembered() -> None:
    scene = Scene()
    for port in range(1, 66):
        scene.save(Handshaken(Ticket()), port)
    assert scene.offered(1) is None
    assert scene.offered(2) is not None
