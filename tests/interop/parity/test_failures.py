"""Upstreams that are away, slow, or wrong: statuses, retries, timeouts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.parity.comparison import OWN_WORDS, Difference, ProxyPair, Row, ask


def attempts(
    path: str,
    answers: str,
    expect: str,
    *,
    line: str = "GET",
    differs: Difference | None = None,
    body: str = "",
) -> Row:
    request = ask(f"{line} {path}", f"answer: {answers}", host="retries.test", body=body)
    return Row(request=request, expect=expect, differs=differs)


RETRIES = {
    "none configured": attempts("/none", "503,ok", "503 said"),
    "5xx": attempts("/5xx", "503,ok", "200 ok"),
    "5xx twice": attempts("/5xx", "500,502,ok", "200 ok"),
    "5xx, exhausted": attempts("/5xx", "503,500,502,ok", "502 said"),
    "5xx is not 429": attempts("/5xx", "429,ok", "429 said"),
    "5xx of a POST": attempts("/5xx", "503,ok", "200 ok", line="POST", body="once more"),
    "5xx of a large POST": attempts("/5xx", "503,ok", "200 ok", line="POST", body="x" * 300_000),
    "5xx of a POST of more than is kept": attempts(
        "/5xx", "503,ok", "503 said", line="POST", body="x" * 1_500_000
    ),
    "5xx of a POST of more than the route keeps": attempts(
        "/small-buffer", "503,ok", "503 said", line="POST", body="x" * 5000
    ),
    "5xx of a POST of less than the route keeps": attempts(
        "/large-buffer", "503,ok", "200 ok", line="POST", body="x" * 1_500_000
    ),
    "5xx after a reset": attempts("/5xx", "reset,ok", "200 ok"),
    "gateway error": attempts("/gateway-error", "504,ok", "200 ok"),
    "gateway error, but 500": attempts("/gateway-error", "500,ok", "500 said"),
    "gateway error is retried once by default": attempts("/gateway-error", "503,503,ok", "503 said"),
    "409": attempts("/retriable-4xx", "409,ok", "200 ok"),
    "404 is no retriable 4xx": attempts("/retriable-4xx", "404,ok", "404 said"),
    "listed status": attempts("/status-codes", "418,ok", "200 ok"),
    "status that is not listed": attempts("/status-codes", "503,ok", "503 said"),
    "reset": attempts("/reset", "reset,ok", "200 ok"),
    "reset twice": attempts("/reset", "reset,reset,ok", "503", differs=OWN_WORDS),
    "503, then resets": attempts("/5xx", "503,reset,reset", "503", differs=OWN_WORDS),
    "reset is no 503": attempts("/reset", "503,ok", "503 said"),
    "connect failure, exhausted": attempts("/connect-failure", "ok", "503", differs=OWN_WORDS),
    "response header": attempts("/retriable-headers", "200,ok,ok", "200"),
    "per-try timeout": attempts("/per-try", "silence,ok", "200 ok"),
    "per-try timeout, exhausted": attempts("/per-try", "silence", "504", differs=OWN_WORDS),
    "per-try timeout that nothing retries": attempts("/per-try-alone", "silence", "504", differs=OWN_WORDS),
    "HEAD": attempts("/5xx", "503,empty", "200", line="HEAD"),
}


def failing(
    host: str, line: str, answer: str, expect: str, *, body: str = "", differs: Difference | None = OWN_WORDS
) -> Row:
    return Row(request=ask(line, f"answer: {answer}", host=host, body=body), expect=expect, differs=differs)


def misread(answer: str, expect: str) -> Row:
    reason = "RFC 9112 11.1: two parsers that read one message differently are how responses are split"
    return Row(
        request=ask("GET /", f"answer: {answer}", host="clusters.test"),
        expect=expect,
        ours=("502 upstream connect error", reason),
    )


FAILURES = {
    "connection refused": failing("clusters.test", "GET /refused", "ok", "503"),
    "connection refused, HEAD": failing("clusters.test", "HEAD /refused", "ok", "503"),
    "connection refused, POST": failing("clusters.test", "POST /refused", "ok", "503", body="hello"),
    "circuit breaker open": failing("clusters.test", "GET /overflow", "ok", "503"),
    "route timeout": failing("timeouts.test", "GET /short", "silence", "504"),
    "route timeout, HEAD": failing("timeouts.test", "HEAD /short", "silence", "504"),
    "route timeout, POST": failing("timeouts.test", "POST /short", "silence", "504", body="hello"),
    "no timeout": failing("timeouts.test", "GET /none", "ok", "200 ok", differs=None),
    "closed without an answer": failing("clusters.test", "POST /", "reset", "503", body="hello"),
    "closed within the body": failing("clusters.test", "GET /", "cut short", "closed"),
    "closed within a chunked body": failing("clusters.test", "GET /", "cut chunk", "closed"),
    "garbage": failing("clusters.test", "GET /", "garbage", "502"),
    "two lengths": failing("clusters.test", "GET /", "two lengths", "502"),
    "length and chunks": failing("clusters.test", "GET /", "length and chunks", "502"),
    "malformed header": failing("clusters.test", "GET /", "bad header", "502"),
    "too many headers": failing("clusters.test", "GET /", "too many headers", "502"),
    "too large a head": failing("clusters.test", "GET /", "too large head", "502"),
    "gzip, then chunks": failing("clusters.test", "GET /", "gzip and chunked", "502"),
    "204 with a body": Row(
        request=ask("GET /", "answer: 204 with body", host="clusters.test"),
        expect="502 upstream connect error",
        ours=("204 | open", "RFC 9112 6.3: it ends with its head; what follows ends the connection alone"),
    ),
    "two equal lengths": failing("clusters.test", "GET /", "equal lengths", "502"),
    "empty length": failing("clusters.test", "GET /", "empty length", "502"),
    "bare line feeds": misread("bare line feeds", "200 ok | open"),
    "no status": failing("clusters.test", "GET /", "HTTP/1.1 and no more", "502"),
    "NUL in a header": failing("clusters.test", "GET /", "NUL", "502"),
    "carriage return in a header": misread("carriage return", "200 ok | open"),
    "HTTP/2.0": failing("clusters.test", "GET /", "HTTP/2.0", "200 ok | open"),
    "status below 100": failing("clusters.test", "GET /", "099", "502"),
    "malformed chunk": Row(
        request=ask("GET /", "answer: bad chunk", host="clusters.test"),
        expect="closed",
        ours=("502 upstream connect error", "there is time to say what is wrong, as the head was not sent"),
    ),
}


EXPECTING = ("expect: 100-continue", "content-length: 5")


def impatient(line: str, *fields: str, expect: str, body: str = "", **options: Any) -> Row:
    request = ask(line, *fields, host="patience.test") + body.encode()
    return Row(request=request, expect=expect, listener="impatient", **options)


GIVEN_UP = ("504 Gateway Timeout: no data", "a client is given up with its connection")


def early(before: bytes) -> Row:
    """A connection is opened, and used when one that is slow with a head has come and gone."""
    request = before + ask("GET /", host="forwarding.test")
    slow = b"GET / HTTP/1.1\r\nhost: "
    return Row(request=request, elsewhere=slow, expect="200 ok | open", listener="edge")


IMPATIENCE = {
    "upstream is silent": impatient("GET /", "answer: silence", expect="504 stream timeout", ours=GIVEN_UP),
    "upstream is silent, on a route that waits": Row(
        request=ask("GET /idle", "answer: silence", host="timeouts.test"),
        expect="504 stream timeout",
        ours=GIVEN_UP,
    ),
    "upstream is silent, on a patient route": impatient(
        "GET /patient", "answer: silence", expect="504 upstream request timeout | open", differs=OWN_WORDS
    ),
    "client does not send its body": impatient(
        "POST /", "content-length: 5", expect="408 stream timeout", differs=OWN_WORDS
    ),
    "upstream is silent, after a body with trailers": impatient(
        "POST /",
        "answer: silence",
        "transfer-encoding: chunked",
        body="5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
        expect="504 stream timeout",
        ours=GIVEN_UP,
    ),
    "upstream is silent, after a body that came later": impatient(
        "POST /",
        "answer: silence",
        *EXPECTING,
        then=b"hello",
        answers=2,
        expect="100 | 504 stream timeout",
        ours=("100 | 504 Gateway Timeout: no data", GIVEN_UP[1]),
    ),
    "client does not send all of its body": impatient(
        "POST /",
        *EXPECTING,
        then=b"hel",
        answers=2,
        expect="100 | 408 stream timeout",
        differs=OWN_WORDS,
    ),
    "client does not send its head": Row(
        request=b"GET / HTTP/1.1\r\nhost: ", expect="408", listener="impatient", differs=OWN_WORDS
    ),
    "client does not send anything": Row(request=b"", expect="closed", listener="impatient"),
    "client sends its first request later than a head may take": early(b""),
    "client sends empty lines, and its first request": early(b"\r\n\r\n"),
    "retries of the virtual host": impatient("GET /", "answer: 503,ok", expect="200 ok | open"),
    "retries of the route instead": impatient("GET /own-retries", "answer: 503,ok", expect="503 said | open"),
}


@pytest.mark.parametrize("row", IMPATIENCE.values(), ids=list(IMPATIENCE))
def test_patience(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", RETRIES.values(), ids=list(RETRIES))
def test_retries(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", FAILURES.values(), ids=list(FAILURES))
def test_failures(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)
