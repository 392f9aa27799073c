"""The request that the upstream gets, and the response that the client gets: paths, hosts, headers,
clusters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.interop.parity.comparison import OWN_WORDS, REFRAMED, Difference, ProxyPair, Row, ask


def forwarded(line: str, *fields: str, host: str, expect: str = "200 ok | open") -> Row:
    return Row(request=ask(line, *fields, host=host), expect=expect)


def rewritten(target: str, *fields: str, host: str = "rewrites.test") -> Row:
    return forwarded(f"GET {target}", *fields, host=host)


REWRITES = {
    "prefix": rewritten("/api/books"),
    "prefix, with the query": rewritten("/api/books?q=/api/"),
    "prefix, nothing after it": rewritten("/api/"),
    "prefix to the root": rewritten("/strip/books"),
    "prefix without its slash": rewritten("/no-slash/books"),
    "prefix within a segment": rewritten("/no-slashed"),
    "exact path": rewritten("/old"),
    "exact path, with the query": rewritten("/old?a=1&b"),
    "exact path, with an empty query": rewritten("/old?"),
    "path-separated prefix": rewritten("/dir/a/b"),
    "path-separated prefix alone": rewritten("/dir"),
    "prefix in other case": rewritten("/ANYCASE/rest"),
    "regex": rewritten("/regex/a/b/c"),
    "regex, with the query": rewritten("/regex/a/b?c=/regex/"),
    "regex that does not match": rewritten("/regex/a"),
    "regex replaces every match": rewritten("/every/tree?else=e"),
    "regex with the whole match": rewritten("/matched/42"),
    "host": rewritten("/host-literal"),
    "host, port in the request": rewritten("/host-literal", host="rewrites.test:8080"),
    "host's own name": rewritten("/host-auto"),
    "host without a name": rewritten("/host-auto-unnamed"),
    "host, the old one appended": rewritten("/host-append"),
    "host, appended to others": rewritten("/host-append", "x-forwarded-host: a.test, b.test"),
    "host, appended once": rewritten("/host-append", "x-forwarded-host: rewrites.test"),
    "host's own name, the old one appended": rewritten("/host-auto-append"),
    "host and path": rewritten("/host-and-path/a"),
    "client's word on the original path": rewritten("/api/a", "x-envoy-original-path: /mine"),
    "client's word on the original host": rewritten("/host-literal", "x-envoy-original-host: mine"),
}


def with_headers(path: str, *fields: str, expect: str = "200 ok | open") -> Row:
    return forwarded(f"GET {path}", *fields, host="headers.test", expect=expect)


HEADERS = {
    "added at three levels": with_headers("/append"),
    "added to those that are there": with_headers("/append", "x-level: client", "x-mixed-case: client"),
    "overwritten": with_headers("/overwrite", "x-a: 1", "x-a: 2"),
    "overwritten, not there": with_headers("/overwrite"),
    "overwritten if there": with_headers("/overwrite-if-exists", "x-a: 1"),
    "overwritten if there, not there": with_headers("/overwrite-if-exists"),
    "added if absent": with_headers("/add-if-absent"),
    "added if absent, there": with_headers("/add-if-absent", "x-a: 1"),
    "deprecated append": with_headers("/append-false", "x-a: 1"),
    "removed": with_headers("/remove", "x-secret: 1", "X-Secret: 2", "x-virtual-host-secret: 3"),
    "removed, then added": with_headers("/remove-and-add", "x-a: 1"),
    "empty values": with_headers("/empty"),
    "of a direct response": with_headers("/direct", expect="418 short and stout"),
    "of an empty direct response": with_headers("/direct-empty", expect="204"),
    "of a redirect": with_headers("/redirect", expect="301"),
    "of a local reply": with_headers("/unavailable", expect="503"),
}


def operated(path: str, *leaked: str) -> Row:
    """``leaked`` are fields that Envoy sends to the next hop, as the route says."""
    reason = "RFC 9110 7.6.1: what is for one hop is its codec's to say"
    row = forwarded(f"POST {path}", "content-length: 0", host="framing-operations.test")
    return replace(row, differs=Difference(reason, frozenset(leaked)) if leaked else None)


FRAMING_OPERATIONS = {
    **{
        f"{name} of requests": operated(f"/request/{name}", name)
        for name in ("connection", "upgrade", "proxy-connection", "keep-alive", "te", "trailer")
    },
    **{
        f"{name} of responses": operated(f"/response/{name}", name)
        for name in ("keep-alive", "te", "trailer")
    },
    **{
        f"{name} of responses": operated(f"/response/{name}")
        for name in ("connection", "upgrade", "proxy-connection")
    },
    "content-length of requests, removed": replace(operated("/request/without-length"), differs=REFRAMED),
    "content-length of responses, removed": replace(operated("/response/without-length"), differs=REFRAMED),
}


def at_level(path: str, *fields: str) -> Row:
    return replace(forwarded(f"GET {path}", *fields, host="levels.test"), listener="impatient")


LEVELS = {
    "route": at_level("/"),
    "virtual host": at_level("/virtual-host"),
    "client": at_level("/", "x-level: client"),
}


def to_cluster(path: str, *fields: str, expect: str = "200 ok | open") -> Row:
    return forwarded(f"GET {path}", *fields, host="clusters.test", expect=expect)


def to_no_cluster(path: str, *fields: str, expect: str = "503 | open") -> Row:
    return replace(to_cluster(path, *fields, expect=expect), differs=OWN_WORDS)


CLUSTERS = {
    "weights 0 and 100": to_cluster("/all-or-nothing"),
    "weighted cluster's own headers and host": to_cluster(
        "/weighted-extras", "x-secret: 1", "x-level: client"
    ),
    "cluster named by a header": to_cluster("/by-header", "x-cluster: second"),
    "cluster named by a header, unknown": to_no_cluster("/by-header", "x-cluster: missing"),
    "cluster named by a header that is missing": to_no_cluster("/by-header"),
    "unknown cluster": to_no_cluster("/unknown"),
    "unknown cluster that has all of the weight": to_no_cluster("/weighted-unknown"),
    "unknown cluster that has none of the weight": to_cluster("/weighted-beside-unknown"),
    "unknown cluster, as 404": to_no_cluster("/unknown-404", expect="404 | open"),
    "unknown cluster, as 500": to_no_cluster("/unknown-500", expect="500 | open"),
    "cluster without hosts": to_cluster("/no-hosts", expect="503 no healthy upstream | open"),
}


@pytest.mark.parametrize("row", REWRITES.values(), ids=list(REWRITES))
def test_rewrites(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", HEADERS.values(), ids=list(HEADERS))
def test_header_operations(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", FRAMING_OPERATIONS.values(), ids=list(FRAMING_OPERATIONS))
def test_operations_on_headers_that_a_codec_generates(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", LEVELS.values(), ids=list(LEVELS))
def test_most_specific_level_wins(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", CLUSTERS.values(), ids=list(CLUSTERS))
def test_clusters(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)
