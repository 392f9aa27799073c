"""Connections that stop to be HTTP: WebSocket upgrades, CONNECT that ends at the proxy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.parity.comparison import OWN_WORDS, Difference, ProxyPair, Row, ask

WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


TOKENS = Difference(
    "RFC 9110 7.6.1, 7.8: options and protocols are named in lower case, whatever the other hop's",
    frozenset(("connection", "upgrade")),
)


def upgrade(path: str, *fields: str, expect: str, **options: Any) -> Row:
    request = ask(f"GET {path}", *fields, host="tunnels.test")
    return Row(request=request, expect=expect, differs=TOKENS, **options)


UPGRADES = {
    "WebSocket": upgrade("/", *WEBSOCKET, "answer: switch", expect="101", then=b"ping...bye", tunnel=True),
    "WebSocket in capitals": upgrade(
        "/",
        "Connection: UPGRADE",
        "Upgrade: WebSocket",
        "answer: switch",
        expect="101",
        then=b"bye",
        tunnel=True,
    ),
    "upgrade among other options": upgrade(
        "/",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "answer: switch",
        expect="101",
        then=b"bye",
        tunnel=True,
    ),
    "upstream declines": upgrade(
        "/",
        *WEBSOCKET,
        "answer: ok",
        expect="200 | closed",
        ours=("200 ok | closed", "RFC 9110 7.8: an answer like any other, with its body, which Envoy drops"),
    ),
    "upstream speaks at once": upgrade(
        "/", *WEBSOCKET, "answer: switch and speak", expect="101", tunnel=True
    ),
    "upstream refuses": upgrade("/", *WEBSOCKET, "answer: 403", expect="403 said"),
    "upstream is away": Row(
        request=ask("GET /refused", *WEBSOCKET, host="clusters.test"), expect="503", differs=OWN_WORDS
    ),
    "no route": Row(request=ask("GET /none", *WEBSOCKET, host="paths.test"), expect="404"),
    "listener does not allow it": upgrade("/", *WEBSOCKET, expect="403", listener="edge"),
    "route does not allow it": upgrade("/no-upgrade", *WEBSOCKET, expect="403"),
    "route allows another one": upgrade(
        "/other-upgrade", "Connection: Upgrade", "Upgrade: other", "answer: ok", expect="200 ok"
    ),
    "route that allows another one keeps the listener's": upgrade(
        "/other-upgrade", *WEBSOCKET, "answer: switch", expect="101", then=b"bye", tunnel=True
    ),
    "unknown protocol": upgrade("/", "Connection: Upgrade", "Upgrade: unheard-of", expect="403"),
    "direct response": upgrade("/direct", *WEBSOCKET, expect="200 no tunnel"),
    "switch that nobody asked for": upgrade(
        "/",
        "answer: switch",
        expect="101",
        ours=("502 upstream connect error", "RFC 9110 15.2.2: a client must ask"),
    ),
}


def connect(authority: str, expect: str, **options: Any) -> Row:
    return Row(request=ask(f"CONNECT {authority}", host=authority), expect=expect, **options)


CONNECTS = {
    "terminated": connect(
        "tunnels.test:443",
        "200",
        then=ask("GET /inside", "connection: close", "answer: close", host="inside.test"),
        tunnel=True,
    ),
    "listener does not allow it": connect("no-tunnels.test:443", "403"),
    "no route": connect("paths.test:443", "404"),
    "upstream is away": connect("broken-tunnels.test:443", "503", differs=OWN_WORDS),
    "data right behind the head": Row(
        request=ask("CONNECT tunnels.test:443", host="tunnels.test:443")
        + ask("GET /inside", "connection: close", "answer: close", host="inside.test"),
        expect="200",
        tunnel=True,
    ),
    "with another host": Row(request=ask("CONNECT paths.test:443", host="tunnels.test:443"), expect="404"),
    "no port": connect("tunnels.test", "400", differs=OWN_WORDS),
    "a path": connect("/path", "400", differs=OWN_WORDS),
}


@pytest.mark.parametrize("row", UPGRADES.values(), ids=list(UPGRADES))
def test_upgrades(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", CONNECTS.values(), ids=list(CONNECTS))
def test_connect(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)
