"""The headers about earlier hops, and the headers that are for one hop only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.interop.parity.comparison import OWN_WORDS, Difference, ProxyPair, Row, ask

REQUEST_ID = "x-request-id: 6f1c6e4a-0000-4000-8000-000000000001"


def through(listener: str, *fields: str, line: str = "GET /path?q=1", expect: str = "200 ok | open") -> Row:
    return Row(request=ask(line, *fields, host="forwarding.test"), expect=expect, listener=listener)


CLIENT_CERTIFICATE = "x-forwarded-client-cert: By=spiffe://a/b;Hash=1"
SAID = {
    "nothing": (),
    "x-forwarded-for": ("x-forwarded-for: 10.1.1.1",),
    "x-forwarded-for of two hops": ("x-forwarded-for: 10.1.1.1, 10.2.2.2",),
    "x-forwarded-for twice": ("x-forwarded-for: 10.1.1.1", "x-forwarded-for: 10.2.2.2"),
    "x-forwarded-for, no address": ("x-forwarded-for: unknown, somebody",),
    "x-forwarded-proto https": ("x-forwarded-proto: https",),
    "x-forwarded-proto in capitals": ("x-forwarded-proto: HTTPS",),
    "x-forwarded-proto, nonsense": ("x-forwarded-proto: ftp",),
    "x-forwarded-host": ("x-forwarded-host: other.test",),
    "x-forwarded-port": ("x-forwarded-port: 8443",),
    "x-request-id": (REQUEST_ID,),
    "x-request-id that is no UUID": ("x-request-id: mine",),
    "internal controls": (
        "x-envoy-internal: true",
        "x-envoy-external-address: 10.9.9.9",
        "x-envoy-upstream-rq-timeout-ms: 1",
        "x-envoy-upstream-rq-per-try-timeout-ms: 1",
        "x-envoy-retry-on: 5xx",
        "x-envoy-max-retries: 5",
        "x-envoy-original-path: /mine",
        "x-envoy-decorator-operation: mine",
        "x-envoy-expected-rq-timeout-ms: 1",
    ),
    "attempt count": ("x-envoy-attempt-count: 7",),
    "downstream's name": (
        "x-envoy-downstream-service-cluster: mine",
        "x-envoy-downstream-service-node: mine",
    ),
    "peer metadata": ("x-envoy-peer-metadata: abc",),
    "client certificate": (CLIENT_CERTIFICATE,),
    "trace context": ("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "b3: 0"),
}
HEARD = {
    f"{what}, {listener}": through(listener, *fields)
    for what, fields in SAID.items()
    for listener in ("plain", "edge", "strict")
}
HEARD["internal controls from an internal address"] = through(
    "plain", "x-forwarded-for: 10.1.1.1", *SAID["internal controls"]
)
HEARD["x-request-id, empty"] = through("plain", "x-request-id:")
HEARD["x-forwarded-for, empty"] = replace(
    through("plain", "x-forwarded-for:"),
    differs=Difference("an empty list of addresses is not worth passing on", frozenset(("x-forwarded-for",))),
)

NAMED_BY_CONNECTION = Difference(
    "RFC 9110 7.6.1: what the upstream's Connection names is not for the client", frozenset(("x-hop",))
)


def unnameable(name: str) -> Row:
    """A client that had it removed would hide who it is."""
    return replace(
        through("plain", f"Connection: {name}", "x-forwarded-for: 10.1.1.1", expect="400"), differs=OWN_WORDS
    )


HOP_BY_HOP = {
    "keep-alive": through("plain", "Connection: keep-alive", "Keep-Alive: timeout=5"),
    "connection close": through("plain", "Connection: close", expect="200 ok | closed"),
    "connection close in capitals": through("plain", "CONNECTION: Close", expect="200 ok | closed"),
    "named by connection": through(
        "plain", "Connection: x-hop, x-other", "x-hop: 1", "x-other: 2", "x-end: 3"
    ),
    "close and keep-alive": through("plain", "Connection: keep-alive, close", expect="200 ok | closed"),
    "close in two headers": through(
        "plain", "Connection: x-a", "Connection: close", expect="200 ok | closed"
    ),
    "connection names an empty option": through("plain", "Connection: , x-hop,", "x-hop: 1"),
    "connection names content-length": replace(
        through("plain", "Connection: content-length", "content-length: 0"),
        differs=Difference("the framing is nobody's option", frozenset(("content-length", "framing"))),
    ),
    "connection names host": unnameable("host"),
    "connection names x-forwarded-for": unnameable("x-forwarded-for"),
    "connection names x-forwarded-host": unnameable("x-forwarded-host"),
    "connection names x-forwarded-proto": unnameable("x-forwarded-proto"),
    "connection names x-request-id": through("plain", "Connection: x-request-id", REQUEST_ID),
    "connection names cookie": through("plain", "Connection: cookie", "cookie: a=1"),
    "proxy-connection": through("plain", "Proxy-Connection: keep-alive"),
    "te trailers": through("plain", "TE: trailers"),
    "te trailers, named by connection": through("plain", "Connection: te", "TE: trailers"),
    "te gzip": through("plain", "TE: gzip"),
    "trailer": through("plain", "Trailer: x-sum"),
    "proxy-authorization": through("plain", "Proxy-Authorization: Basic abc"),
    "authorization": through("plain", "Authorization: Bearer abc"),
    "offer of h2c": through(
        "plain", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"
    ),
    "upgrade that connection does not name": through("plain", "Upgrade: websocket"),
    "of the response": replace(through("plain", "answer: hop-by-hop"), differs=NAMED_BY_CONNECTION),
}

PASSED_ON = {
    "duplicates in their order": through("plain", "x-a: 1", "X-A: 2", "x-a: 1"),
    "cookies": through("plain", "Cookie: a=1", "Cookie: b=2"),
    "empty value": through("plain", "x-empty:"),
    "white space around a value": through("plain", "x-a: \t spaced out \t "),
    "bytes above 127": through("plain", "x-a: \u00e9\u00ff"),
    "unusual name": through("plain", "x_under.score!: 1"),
    "user-agent and accept": through("plain", "User-Agent: test", "Accept: */*"),
    "via": through("plain", "Via: 1.1 earlier"),
    "forwarded": through("plain", "Forwarded: for=10.1.1.1"),
    "range": through("plain", "Range: bytes=0-1", "If-Range: abc"),
    "unusual method": through("plain", line="PURGE /path"),
    "unusual target": through("plain", line="GET /a%20b;c=d//e/./f?q=%zz&r=[]"),
    "backslash and quotes": through("plain", line="GET /a\\b'c\"d|e^f`g{h}"),
    "second question mark": through("plain", line="GET /a?b?c"),
    "upstream's own headers": through("plain", "answer: own headers", expect="200 ok | open"),
    "upstream's own headers, edge": through("edge", "answer: own headers", expect="200 ok | open"),
    "upstream's status": through("plain", "answer: 207", expect="207 said"),
    "upstream's unknown status": through("plain", "answer: 299", expect="299 said"),
    "upstream's 503 is not explained": through("plain", "answer: 503", expect="503 said"),
}


NORMALIZED = {
    target: through("edge", line=f"GET {target}")
    for target in (
        "/a/./b", "/a/.", "/a/..", "/a/../", "/.", "/a/b/../../c", "/a//b", "/a//../b", "/a/%2e/b",
        "/a/%2E%2e/b", "/a/b?c=/../d//e", "/a;b/../c", "/%7euser", "/%7Euser", "/a%2Fb", "/a%2fb/../c",
        "/a%5cb", "/a\\b", "/a\\..\\b", "/%41%62", "/a%20b", "/a%zz", "/a%", "/...", "/.hidden", "/a/..b",
        "/a/b//", "/%c3%a9", "/a|b", "/a%25b", "/%2f",
    )
}  # fmt: skip


@pytest.mark.parametrize("row", NORMALIZED.values(), ids=list(NORMALIZED))
def test_normalized_paths(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", HEARD.values(), ids=list(HEARD))
def test_headers_by_which_a_client_describes_itself(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", HOP_BY_HOP.values(), ids=list(HOP_BY_HOP))
def test_headers_meant_for_one_hop(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", PASSED_ON.values(), ids=list(PASSED_ON))
def test_headers_that_are_passed_on(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)
