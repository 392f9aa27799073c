"""Answers that no upstream gives: redirects and direct responses."""

from __future__ import annotations

import pytest

from tests.interop.parity.comparison import ProxyPair, Row, ask


def redirect(
    target: str, *fields: str, host: str = "redirects.test", status: int = 301, line: str = "GET"
) -> Row:
    return Row(request=ask(f"{line} {target}", *fields, host=host), expect=f"{status} | open")


REDIRECTS = {
    "301 to a host": redirect("/301"),
    "302 to a host": redirect("/302", status=302),
    "303 to a host": redirect("/303", status=303),
    "307 to a host": redirect("/307", status=307),
    "308 to a host": redirect("/308", status=308),
    "host keeps the query": redirect("/301?a=1"),
    "host takes the port away": redirect("/301", host="redirects.test:8080"),
    "HEAD": redirect("/301", line="HEAD"),
    "DELETE": redirect("/307", status=307, line="DELETE"),
    "https": redirect("/https"),
    "https, the default port left behind": redirect("/https", host="redirects.test:80"),
    "https, another port kept": redirect("/https", host="redirects.test:8080"),
    "https, IPv6": redirect("/https", host="[2001:db8::2]:80"),
    "https that it already was": redirect("/https", "x-forwarded-proto: https"),
    "scheme": redirect("/scheme"),
    "port": redirect("/port"),
    "port in place of another": redirect("/port", host="redirects.test:8080"),
    "port of an IPv6 address": redirect("/port", host="[2001:db8::2]:80"),
    "host and port": redirect("/host-port"),
    "https and its port": redirect("/https-port"),
    "path": redirect("/path"),
    "path keeps the query": redirect("/path?a=1"),
    "path with a query of its own": redirect("/path-query?a=1"),
    "query stripped": redirect("/strip?a=1"),
    "query stripped, but the path's own": redirect("/strip-own?a=1"),
    "prefix": redirect("/prefix/a/b?c=1"),
    "prefix, query stripped": redirect("/prefix-strip/a?b=1"),
    "regex": redirect("/regex/a/b?c=1"),
    "everything at once": redirect("/everything?a=1", status=302),
    "scheme that the first hop spoke": redirect("/path", "x-forwarded-proto: https"),
    "host in capitals": redirect("/path", host="Redirects.TEST"),
}


def direct(target: str, expect: str, *, line: str = "GET", body: str = "") -> Row:
    return Row(request=ask(f"{line} {target}", host="direct.test", body=body), expect=expect)


DIRECT = {
    "without a body": direct("/empty", "200 | open"),
    "text": direct("/text", "200 some text"),
    "text to HEAD": direct("/text", "200 | open", line="HEAD"),
    "nothing to HEAD": direct("/empty", "200 | open", line="HEAD"),
    "bytes": direct("/bytes", "200 hello"),
    "403 with a body": direct("/forbidden", "403 RBAC"),
    "503 without a body": direct("/unavailable", "503 | open"),
    "204": direct("/no-content", "204 | open"),
    "unusual status": direct("/unusual", "299 unusual"),
    "to OPTIONS": direct("/text", "200 some text", line="OPTIONS"),
    "to an unusual method": direct("/text", "200 some text", line="PURGE"),
}


@pytest.mark.parametrize("row", REDIRECTS.values(), ids=list(REDIRECTS))
def test_redirects(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", DIRECT.values(), ids=list(DIRECT))
def test_direct_responses(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)
