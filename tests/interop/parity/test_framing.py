"""HTTP/1.1 itself: bodies and their ends, pipelining, other versions, invalid requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.interop.parity.comparison import OWN_WORDS, REFRAMED, Difference, ProxyPair, Row, ask

HOST = "forwarding.test"


def sends(*lines: str, expect: str, **options: Any) -> Row:
    """Lines as they are; two empty ones end the head of a request without a body."""
    return Row(request="\r\n".join(lines).encode("latin-1"), expect=expect, **options)


def answered(answer: str, expect: str, *, line: str = "GET /", **options: Any) -> Row:
    return Row(request=ask(line, f"answer: {answer}", host=HOST), expect=expect, **options)


def chunked(*lines: str, line: str = "POST /", field: str = "transfer-encoding: chunked") -> Row:
    head = (f"{line} HTTP/1.1", f"host: {HOST}", field, "")
    return sends(*head, *lines, *END, expect="200 ok | open", differs=REFRAMED)


END = ("", "")
GET = ("GET / HTTP/1.1", f"host: {HOST}")
POST = ("POST / HTTP/1.1", f"host: {HOST}")
CHUNKED = (*POST, "transfer-encoding: chunked")
EXPECTING = (*POST, "expect: 100-continue", "content-length: 5")

REQUEST_BODIES = {
    "with a length": Row(request=ask("POST /", host=HOST, body="hello"), expect="200 ok | open"),
    "of length 0": sends(
        "POST / HTTP/1.1", f"host: {HOST}", "content-length: 0", "", "", expect="200 ok | open"
    ),
    "none of a POST": sends("POST / HTTP/1.1", f"host: {HOST}", "", "", expect="200 ok | open"),
    "none of a PUT": sends("PUT / HTTP/1.1", f"host: {HOST}", "", "", expect="200 ok | open"),
    "none of a DELETE": sends("DELETE / HTTP/1.1", f"host: {HOST}", "", "", expect="200 ok | open"),
    "of a GET": Row(request=ask("GET /", host=HOST, body="hello"), expect="200 ok | open"),
    "of a DELETE": Row(request=ask("DELETE /", host=HOST, body="hello"), expect="200 ok | open"),
    "large": Row(request=ask("POST /", host=HOST, body="x" * 300_000), expect="200 ok | open"),
    "in chunks": chunked("5", "hello", "6", " world", "0"),
    "in no chunks": chunked("0"),
    "in chunks with extensions": chunked("5;a=b", "hello", "0;c"),
    "in chunks with padded sizes": chunked("5  ", "hello", "6\t ", " world", "0 "),
    "in chunks with white space around extensions": chunked("5 ; a = b ;c", "hello", '0; d="e f" '),
    "in chunks with extensions without names": chunked("5;", "hello", "1;;a", "!", "0;=b"),
    "in chunks with sizes in capitals and zeros": chunked("00A", "0123456789", "000"),
    "in chunks of a GET": chunked("2", "ab", "0", line="GET /"),
    "in chunks, named in capitals": chunked("2", "ab", "0", field="Transfer-Encoding: Chunked"),
    "in chunks, after a tab": chunked("2", "ab", "0", field="transfer-encoding:\tchunked"),
    "in large chunks": replace(chunked(*("10000", "x" * 0x10000) * 8, "0"), differs=None),
    "in chunks, with trailers": sends(
        *CHUNKED,
        "trailer: x-sum",
        "",
        "5",
        "hello",
        "0",
        "X-Sum: 1",
        "x-sum: 2",
        "",
        "",
        expect="200 ok | open",
    ),
    "announced by expect": sends(*EXPECTING, *END, then=b"hello", answers=2, expect="100 | 200 ok | open"),
    "announced by expect, and sent at once": sends(
        *EXPECTING,
        "connection: close",
        "",
        "hello",
        answers=2,
        expect="100 | 200 ok | closed",
        ours=("200 ok | closed", "RFC 9110 10.1.1: who has the body already need not ask for it"),
    ),
    "announced by expect to nobody": sends(
        "POST / HTTP/1.1", "host: paths.test", *EXPECTING[2:], *END, answers=2, expect="100 | 404 | closed"
    ),
    "announced by another expectation": sends(
        *POST,
        "expect: payment",
        "content-length: 0",
        *END,
        expect="200 ok",
        ours=("417 Expectation Failed", "RFC 9110 10.1.1: it cannot be met"),
    ),
}

RESPONSE_BODIES = {
    "with a length": answered("ok", "200 ok | open"),
    "of length 0": answered("empty", "200 | open"),
    "in chunks": answered("chunked", "200 hello world | open", differs=REFRAMED),
    "in large chunks": answered("large chunks", "200 x"),
    "in chunks, with trailers": answered("trailers", "200 hello | open"),
    "204": answered("204", "204 | open"),
    "304": answered("304", "304 | open"),
    "304 with the length of what there is": answered("304 with length", "304 | open"),
    "to HEAD": answered("head", "200 | open", line="HEAD /"),
    "to HEAD, of length 0": answered("empty", "200 | open", line="HEAD /"),
    "to HEAD, in chunks": answered("head chunked", "200 | open", line="HEAD /"),
    "to HEAD, 204": answered("204", "204 | open", line="HEAD /"),
    "to OPTIONS": answered("ok", "200 ok | open", line="OPTIONS /"),
    "until the upstream closes": answered("until close", "200 until the end | open"),
    "of HTTP/1.0": answered("http/1.0", "200 until the end | open"),
    "of an upstream that closes": answered("close", "200 ok | open"),
    "of a large head": answered("large head", "200 ok | open"),
    "of status 600": answered("600", "600 said | open"),
    "of status 205": answered("205", "205"),
    "of 204, with a length": answered("204 with length", "204 | open"),
    "in chunks with padded sizes": answered("padded chunks", "200 hello world | open", differs=REFRAMED),
    "in chunks of an upstream that closes": answered("close in chunks", "200 ok | open", differs=REFRAMED),
    "of more than was said": answered("more than said", "200 ok | open"),
    "without a reason": answered("no reason", "200 ok | open"),
    "before the request's end": sends(
        *POST, "answer: early", "content-length: 100000000", "", "x" * 100_000, expect="413 said"
    ),
    "after early hints": Row(
        request=ask("GET /", "answer: hints", "connection: close", host=HOST),
        expect="200 ok | closed",
        answers=2,
        ours=("103 | 200 ok | closed", "RFC 9110 15.2: a proxy must forward them"),
    ),
    "with a folded header": answered(
        "folded",
        "200 ok | open",
        ours=("502 upstream connect error", "RFC 9112 5.2: two parsers could read it differently"),
    ),
    "with more headers than usual": answered("many headers", "200 ok | open"),
    "after an interim 100": answered("continue", "200 ok | open"),
}

PIPELINED = ask("GET /exact", host="paths.test")
CONNECTIONS = {
    "pipelined": Row(
        request=ask("GET /", "answer: empty", host=HOST)
        + PIPELINED
        + ask("HEAD /x", "answer: head", host=HOST),
        expect="200 | 200 exact | 200 | open",
        answers=3,
    ),
    "pipelined behind a close": Row(
        request=ask("GET /exact", "connection: close", host="paths.test") + PIPELINED,
        expect="200 exact | closed",
        answers=2,
    ),
    "pipelined before nonsense": Row(
        request=PIPELINED + b"nonsense\r\n\r\n", expect="200 exact | 400", answers=2, differs=OWN_WORDS
    ),
    "empty lines before a request": sends("", "", *GET, *END, expect="200 ok | open"),
    "host in capitals": sends("GET / HTTP/1.1", "HOST: Forwarding.Test", *END, expect="200 ok | open"),
    "body slower than the request's timeout": sends(
        *POST,
        "content-length: 5",
        "",
        "hel",
        expect="408 request timeout",
        listener="strict",
        differs=OWN_WORDS,
    ),
    "HTTP/1.0": sends(
        "GET / HTTP/1.0",
        f"host: {HOST}",
        *END,
        expect="426",
        ours=("200 ok | closed", "served; the reply ends with the connection"),
    ),
    "HTTP/1.0 without a host": sends(
        "GET / HTTP/1.0",
        *END,
        expect="426",
        ours=("400 Bad Request: missing Host | closed", "the mesh routes by it"),
    ),
}


def absolute(target: str, expect: str = "200 ok | open", **options: Any) -> Row:
    return sends(f"GET {target} HTTP/1.1", "host: paths.test", *END, expect=expect, **options)


ABSOLUTE_FORM = {
    "with a path and a query": absolute("http://forwarding.test/a?b"),
    "without a path": absolute("http://forwarding.test"),
    "with a query alone": absolute(
        "http://forwarding.test?q", "404 | open", ours=("200 ok | open", "RFC 9110 4.2.3: an empty path is /")
    ),
    "of https": absolute("https://forwarding.test/"),
    "in capitals": absolute("HTTP://Forwarding.TEST/"),
    "with a port": absolute("http://www.domains.test:80/catch-all", "200 catch-all"),
    "where it is not allowed": absolute(
        "http://forwarding.test/",
        "404",
        listener="strict",
        ours=("400 Bad Request: absolute-form", "it says why"),
    ),
}


def malformed(*lines: str, expect: str = "400") -> Row:
    return sends(*lines, expect=expect, differs=OWN_WORDS)


def smuggling(*lines: str, envoy: str) -> Row:
    """A request that Envoy accepts or repairs: `envoy` is its answer."""
    reason = "RFC 9112 11.2: two parsers that read one message differently are how requests are smuggled"
    return sends(*lines, expect=envoy, ours=("400 Bad Request: ", reason))


UNROUTED = Difference(
    "a request that is seen to be broken as soon as it arrives is refused before it is routed",
    OWN_WORDS.parts | {"x-level", "x-route-configuration"},
)


def broken_chunk(size: str) -> Row:
    return sends(*CHUNKED, "", size, "hello", "0", *END, expect="400", differs=UNROUTED)


def other_version(line: str) -> Row:
    return sends(
        line, f"host: {HOST}", *END, expect="426", ours=("400 Bad Request: ", "no upgrade would help")
    )


MALFORMED = {
    "no request line": malformed("nonsense", *END),
    "TLS": malformed("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", *END),
    "no version": other_version("GET /"),
    "version 0.9": other_version("GET / HTTP/0.9"),
    "version 1.2": other_version("GET / HTTP/1.2"),
    "version 2.0": other_version("GET / HTTP/2.0"),
    "version in lower case": malformed("GET / http/1.1", f"host: {HOST}", *END),
    "two spaces": sends("GET  / HTTP/1.1", f"host: {HOST}", *END, expect="200 ok"),
    "space in the target": malformed("GET /a b HTTP/1.1", f"host: {HOST}", *END),
    "control character in the target": malformed("GET /a\x01b HTTP/1.1", f"host: {HOST}", *END),
    "bytes above 127 in the target": malformed("GET /a\u00e9 HTTP/1.1", f"host: {HOST}", *END),
    "fragment in the target": malformed("GET /a#b HTTP/1.1", f"host: {HOST}", *END),
    "target without a slash": malformed("GET path HTTP/1.1", f"host: {HOST}", *END),
    "asterisk of a GET": malformed("GET * HTTP/1.1", f"host: {HOST}", *END),
    "target of another scheme": malformed("GET ftp://forwarding.test/ HTTP/1.1", f"host: {HOST}", *END),
    "target with user information": smuggling(
        "GET http://user@forwarding.test/ HTTP/1.1", f"host: {HOST}", *END, envoy="200 ok"
    ),
    "method in lower case": malformed("get / HTTP/1.1", f"host: {HOST}", *END),
    "method with a bracket": malformed("GE(T / HTTP/1.1", f"host: {HOST}", *END),
    "no host": malformed("GET / HTTP/1.1", *END),
    "empty host": smuggling("GET / HTTP/1.1", "host:", *END, envoy="404"),
    "two hosts": smuggling(*GET, f"host: {HOST}", *END, envoy="404"),
    "two different hosts": smuggling(*GET, "host: other.test", *END, envoy="404"),
    "host with a space": malformed("GET / HTTP/1.1", "host: a b", *END),
    "host with a path": malformed("GET / HTTP/1.1", "host: a.test/b", *END),
    "host with user information": smuggling("GET / HTTP/1.1", "host: user@a.test", *END, envoy="404"),
    "host with a port that is none": smuggling("GET / HTTP/1.1", "host: a.test:port", *END, envoy="404"),
    "space before a colon": malformed(*GET, "x-a : 1", *END),
    "space before a header": malformed(*GET, " x-a: 1", *END),
    "folded header": smuggling(*GET, "x-a: 1", " 2", *END, envoy="200 ok"),
    "header without a colon": malformed(*GET, "x-a", *END),
    "header without a name": malformed(*GET, ": 1", *END),
    "header name with a slash": malformed(*GET, "x/a: 1", *END),
    "header value with a NUL": malformed(*GET, "x-a: 1\x002", *END),
    "header value with a control character": malformed(*GET, "x-a: 1\x012", *END),
    "header value with a carriage return": smuggling(*GET, "x-a: 1\r2", *END, envoy="200 ok"),
    "line feeds alone": smuggling(f"GET / HTTP/1.1\nhost: {HOST}\n\n", envoy="200 ok"),
    "length that is no number": malformed(*POST, "content-length: five", "", "hello"),
    "negative length": malformed(*POST, "content-length: -5", "", "hello"),
    "length with a plus": malformed(*POST, "content-length: +5", "", "hello"),
    "length in hexadecimal": malformed(*POST, "content-length: 0x5", "", "hello"),
    "length with zeros before it": sends(
        *POST, "content-length: 005", "", "hello", expect="200 ok | open", differs=REFRAMED
    ),
    "chunks in HTTP/1.0": smuggling("POST / HTTP/1.0", *CHUNKED[1:], "", "0", *END, envoy="426"),
    "empty length": malformed(*POST, "content-length:", *END),
    "huge length": malformed(*POST, "content-length: 99999999999999999999", "", "hello"),
    "two different lengths": malformed(*POST, "content-length: 5", "content-length: 6", "", "hello!"),
    "two equal lengths": malformed(*POST, "content-length: 5", "content-length: 5", "", "hello"),
    "list of lengths": malformed(*POST, "content-length: 5, 5", "", "hello"),
    "length and chunks": malformed(*CHUNKED, "content-length: 5", "", "5", "hello", "0", *END),
    "chunks, then gzip": smuggling(*POST, "transfer-encoding: chunked, gzip", "", "0", *END, envoy="501"),
    "gzip, then chunks": malformed(*POST, "transfer-encoding: gzip, chunked", "", "0", *END, expect="501"),
    "gzip alone": malformed(*POST, "transfer-encoding: gzip", "", "0", *END, expect="501"),
    "identity": malformed(*POST, "transfer-encoding: identity", *END, expect="501"),
    "chunked twice": smuggling(*CHUNKED, "transfer-encoding: chunked", "", "0", *END, envoy="501"),
    "chunk size that is no number": broken_chunk("xyz"),
    "empty chunk size": broken_chunk(""),
    "negative chunk size": broken_chunk("-5"),
    "chunk size with 0x": broken_chunk("0x5"),
    "huge chunk size": broken_chunk("FFFFFFFFFFFFFFFFF"),
    "white space before a chunk size": broken_chunk(" 5"),
    "vertical tab behind a chunk size": broken_chunk("5\v"),
    "carriage return behind a chunk size": broken_chunk("5\r"),
    "chunk size in two": smuggling(*CHUNKED, "", "2 2", "ab", "0", *END, envoy="200 ok"),
    "control character in a chunk extension": smuggling(
        *CHUNKED, "", "2;a\0", "ab", "0", *END, envoy="200 ok"
    ),
    "chunk size that comes later": sends(
        *CHUNKED,
        "expect: 100-continue",
        *END,
        then=b"xyz\r\n",
        answers=2,
        expect="100 | 400",
        differs=OWN_WORDS,
    ),
    "chunk that is longer than said": smuggling(*CHUNKED, "", "3", "hello", "0", *END, envoy="200 ok"),
}


def too_large(*lines: str, expect: str = "431") -> Row:
    return sends(*lines, *END, expect=expect, listener="strict", differs=OWN_WORDS)


LIMITS = {
    "just small enough": too_large(*GET, "x-a: " + "x" * 1500, expect="200 ok | open"),
    "one large header": too_large(*GET, "x-a: " + "x" * 3000),
    "many headers": too_large(*GET, *(f"x-{number}: {'x' * 400}" for number in range(6))),
    "large target": too_large("GET /" + "x" * 3000 + " HTTP/1.1", f"host: {HOST}"),
    "as many headers as allowed": too_large(
        *GET, *(f"x-{number}: 1" for number in range(9)), expect="200 ok"
    ),
    "one header too many": too_large(*GET, *(f"x-{number}: 1" for number in range(10))),
}


@pytest.mark.parametrize("row", REQUEST_BODIES.values(), ids=list(REQUEST_BODIES))
def test_request_bodies(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", RESPONSE_BODIES.values(), ids=list(RESPONSE_BODIES))
def test_response_bodies(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", CONNECTIONS.values(), ids=list(CONNECTIONS))
def test_connections(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", ABSOLUTE_FORM.values(), ids=list(ABSOLUTE_FORM))
def test_absolute_form(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", MALFORMED.values(), ids=list(MALFORMED))
def test_malformed_requests(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", LIMITS.values(), ids=list(LIMITS))
def test_limits(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)
