"""Which route answers: by the authority, the path, the headers, the query."""

from __future__ import annotations

import pytest

from tests.interop.parity.comparison import ProxyPair, Row, ask

NO_ROUTE = "404 | open"


def domain(host: str, expect: str, path: str = "/catch-all") -> Row:
    return Row(request=ask(f"GET {path}", host=host), expect=expect)


DOMAINS = {
    "exact": domain("www.domains.test", "200 exact domain"),
    "case does not count": domain("WWW.Domains.TEST", "200 exact domain"),
    "port that is not in the domain": domain("www.domains.test:80", "200 catch-all"),
    "port that is in the domain": domain("ported.domains.test:8080", "200 exact domain"),
    "name without the domain's port": domain("ported.domains.test", "200 suffix"),
    "suffix": domain("a.b.domains.test", "200 suffix"),
    "longest suffix wins": domain("a.long.domains.test", "200 longer suffix"),
    "suffix with a dash": domain("some-dash.domains.test", "200 longer suffix"),
    "suffix needs something before it": domain(".domains.test", "200 catch-all"),
    "suffix with a port": domain("a.domains.test:80", "200 catch-all"),
    "prefix": domain("domains.example", "200 prefix"),
    "prefix with a port": domain("domains.example:8080", "200 prefix"),
    "prefix needs something after it": domain("domains.", "200 catch-all"),
    "IPv6 address": domain("[2001:db8::1]", "200 exact domain"),
    "IPv6 address in capitals": domain("[2001:DB8::1]", "200 exact domain"),
    "IPv6 address and port": domain("[2001:db8::1]:8080", "200 exact domain"),
    "IPv4 address": domain("10.0.0.1:9080", "200 catch-all"),
    "anything else": domain("elsewhere.example", "200 catch-all"),
    "anything else without a route": domain("elsewhere.example", NO_ROUTE, "/other"),
    "trailing dot that is not in the domain": domain("www.domains.test.", "200 catch-all"),
    "trailing dot that is in the domain": domain("dotted.domains.test.", "200 exact domain"),
    "trailing dot and port": domain("dotted.domains.test.:8080", "200 exact domain"),
    "trailing dot of a suffix": domain("a.below.dotted.test.", "200 suffix"),
    "suffix with a trailing dot": domain("a.below.dotted.test", "200 catch-all"),
}


def any_port(host: str) -> Row:
    return Row(request=ask("GET /", host=host), expect="200 any port", listener="impatient")


PORTS_IGNORED = {
    host: any_port(host)
    for host in ("ported.test", "ported.test:80", "PORTED.test:8080", "a.ported.test:1", "[2001:db8::3]:80")
}


def path(target: str, expect: str) -> Row:
    return Row(request=ask(f"GET {target}", host="paths.test"), expect=expect)


PATHS = {
    "exact": path("/exact", "200 exact"),
    "exact with a query": path("/exact?a=1", "200 exact"),
    "exact with an empty query": path("/exact?", "200 exact"),
    "exact is the whole path": path("/exact/", NO_ROUTE),
    "exact in other case": path("/Exact", NO_ROUTE),
    "exact ignoring case": path("/ANY/case", "200 exact ignoring case"),
    "prefix": path("/prefix/a", "200 prefix"),
    "prefix alone": path("/prefix", "200 prefix"),
    "prefix within a segment": path("/prefixed", "200 prefix"),
    "prefix in other case": path("/PREFIX", NO_ROUTE),
    "prefix ignoring case": path("/prefix/ANY/thing", "200 prefix ignoring case"),
    "prefix does not reach into the query": path("/p?refix", NO_ROUTE),
    "path-separated prefix": path("/directory/file", "200 directory"),
    "path-separated prefix alone": path("/directory", "200 directory"),
    "path-separated prefix with a query": path("/directory?a=1", "200 directory"),
    "path-separated prefix ends at a slash": path("/directory-other", NO_ROUTE),
    "path-separated prefix in other case": path("/Directory", NO_ROUTE),
    "path-separated prefix ignoring case": path("/fOLDER/file", "200 directory ignoring case"),
    "regex": path("/items/42", "200 regex"),
    "regex with its optional part": path("/items/42/edit", "200 regex"),
    "regex does not see the query": path("/items/42?edit", "200 regex"),
    "regex matches the whole path": path("/items/42/more", NO_ROUTE),
    "regex that ignores case": path("/LETTERS/ABC", "200 regex ignoring case"),
    "regex of more instructions than Envoy takes by itself": path(
        "/sized/" + "ab/" * 99, "200 regex of some size"
    ),
    "percent-encoding is not resolved": path("/%65xact", NO_ROUTE),
    "double slash": path("//exact", NO_ROUTE),
    "dots are not resolved by default": path("/a/../exact", NO_ROUTE),
    "unmatched": path("/nothing", NO_ROUTE),
    "unmatched HEAD": Row(request=ask("HEAD /nothing", host="paths.test"), expect=NO_ROUTE),
    "unmatched POST": Row(
        request=ask("POST /nothing", host="paths.test", body="x"),
        expect="404 | closed",
        ours=("404 | open", "Envoy closes for the body's sake, which has arrived whole"),
    ),
    "asterisk": Row(
        request=ask("OPTIONS *", host="paths.test"),
        expect="404 | open",
        ours=("200 asterisk", "RFC 9112 3.2.4: a target like any other; Envoy routes nothing but paths"),
    ),
    "normalized dots": Row(request=ask("GET /a/../exact", host="paths.test"), expect="200", listener="edge"),
    "normalized encoded dots": Row(
        request=ask("GET /a/%2e%2e/exact", host="paths.test"), expect="200", listener="edge"
    ),
    "normalized unreserved letters": Row(
        request=ask("GET /%65xact", host="paths.test"), expect="200 exact", listener="edge"
    ),
    "merged slashes": Row(request=ask("GET //exact", host="paths.test"), expect="200", listener="edge"),
    "normalization above the root": Row(
        request=ask("GET /../exact", host="paths.test"), expect="200 exact", listener="edge"
    ),
    "encoded slash": Row(request=ask("GET /a%2fexact", host="paths.test"), expect="404", listener="edge"),
}


def headers(
    target: str, *fields: str, matched: bool, line: str = "GET", host: str = "header-matches.test"
) -> Row:
    request = ask(f"{line} {target}", *fields, host=host)
    return Row(request=request, expect="200 matched" if matched else NO_ROUTE)


HEADERS = {
    "exact": headers("/exact", "x-a: One", matched=True),
    "exact, the name in capitals": headers("/exact", "X-A: One", matched=True),
    "exact in other case": headers("/exact", "x-a: one", matched=False),
    "exact, missing": headers("/exact", matched=False),
    "exact ignoring case": headers("/ignore-case", "x-a: oNE", matched=True),
    "exact around white space": headers("/exact", "x-a:   One  ", matched=True),
    "exact, first of two values": headers("/exact", "x-a: One", "x-a: Two", matched=True),
    "exact, second of two values": headers("/exact", "x-a: Two", "x-a: One", matched=True),
    "exact, in a list": headers("/exact", "x-a: One,Two", matched=False),
    "prefix": headers("/prefix", "x-a: one", matched=True),
    "not the prefix": headers("/prefix", "x-a: none", matched=False),
    "suffix": headers("/suffix", "x-a: none", matched=True),
    "not the suffix": headers("/suffix", "x-a: ones", matched=False),
    "contains": headers("/contains", "x-a: one", matched=True),
    "does not contain": headers("/contains", "x-a: two", matched=False),
    "regex": headers("/regex", "x-a: ope", matched=True),
    "regex matches the whole value": headers("/regex", "x-a: opera", matched=False),
    "regex, a byte that is no UTF-8": headers("/any-regex", "x-a: jos\xe9", matched=True),
    "regex, UTF-8": headers("/any-regex", "x-a: jos\xc3\xa9", matched=True),
    "regex, any byte but one": headers("/not-regex", "x-a: jos\xe9", matched=True),
    "regex, a class is one byte": headers("/not-regex", "x-a: jos\xc3\xa9", matched=False),
    "regex, a byte by its number": headers("/byte-regex", "x-a: jos\xe9", matched=True),
    "regex, a byte is not a code point": headers("/byte-regex", "x-a: jos\xc3\xa9", matched=False),
    "regex, a letter outside ASCII": headers("/accent-regex", "x-a: jos\xc3\xa9", matched=True),
    "regex, such a letter in Latin-1": headers("/accent-regex", "x-a: jos\xe9", matched=False),
    "deprecated exact": headers("/old-exact", "x-a: one", matched=True),
    "deprecated regex": headers("/old-regex", "x-a: one more", matched=True),
    "present": headers("/present", "x-a: 1", matched=True),
    "present and empty": headers("/present", "x-a:", matched=True),
    "not there to be present": headers("/present", matched=False),
    "absent": headers("/absent", matched=True),
    "not absent": headers("/absent", "x-a: 1", matched=False),
    "inverted present": headers("/not-present", matched=True),
    "inverted present, present": headers("/not-present", "x-a: 1", matched=False),
    "nothing asked but the name": headers("/unsaid", "x-a: 1", matched=True),
    "nothing asked but the name, missing": headers("/unsaid", matched=False),
    "inverted exact": headers("/not-exact", "x-a: two", matched=True),
    "inverted exact, equal": headers("/not-exact", "x-a: one", matched=False),
    "inverted exact, missing": headers("/not-exact", matched=False),
    "inverted exact, one of two equal": headers("/not-exact", "x-a: two", "x-a: one", matched=False),
    "missing is empty": headers("/missing-as-empty", matched=True),
    "empty is empty": headers("/missing-as-empty", "x-a:", matched=True),
    "missing is empty, but present": headers("/missing-as-empty", "x-a: 1", matched=False),
    "missing is empty, so not one": headers("/missing-is-not-one", matched=True),
    "missing is empty, but is one": headers("/missing-is-not-one", "x-a: one", matched=False),
    "range, its start": headers("/range", "x-a: -2", matched=True),
    "range, within": headers("/range", "x-a: 9", matched=True),
    "range, its end": headers("/range", "x-a: 10", matched=False),
    "range, no number": headers("/range", "x-a: 5x", matched=False),
    "range, a fraction": headers("/range", "x-a: 5.0", matched=False),
    "range, with a plus": headers("/range", "x-a: +5", matched=True),
    "range, empty": headers("/range", "x-a:", matched=False),
    "both": headers("/both", "x-a: one", "x-b: 1", matched=True),
    "both, but one is missing": headers("/both", "x-a: one", matched=False),
    "method": headers("/method", "content-length: 0", line="PUT", matched=True),
    "other method": headers("/method", matched=False),
    "authority": headers("/authority", matched=True),
    "scheme": headers("/scheme", matched=True),
    "path with its query": headers("/path?q=1", matched=True),
    "path with another query": headers("/path?q=2", matched=False),
    "cookie": headers("/cookie", "cookie: a=1; user=jason; b=2", matched=True),
    "second cookie header": headers("/cookie", "cookie: a=1", "cookie: user=jason", matched=True),
    "internal header is not the client's to set": headers(
        "/exact", "x-a: One", "x-envoy-internal: true", matched=True
    ),
}


def query(target: str, *, matched: bool) -> Row:
    return headers(target, matched=matched, host="query-matches.test")


QUERIES = {
    "exact": query("/exact?a=1", matched=True),
    "exact among others": query("/exact?b=2&a=1&c", matched=True),
    "exact, another value": query("/exact?a=2", matched=False),
    "exact, missing": query("/exact", matched=False),
    "name in other case": query("/exact?A=1", matched=False),
    "first of two values": query("/exact?a=1&a=2", matched=True),
    "second of two values": query("/exact?a=2&a=1", matched=False),
    "percent-encoded value": query("/exact?a=%31", matched=False),
    "percent-encoded name": query("/exact?%61=1", matched=False),
    "regex": query("/regex?a=123", matched=True),
    "regex matches the whole value": query("/regex?a=123x", matched=False),
    "prefix ignoring case": query("/prefix?a=V1", matched=True),
    "present": query("/present?a", matched=True),
    "present and empty": query("/present?a=", matched=True),
    "part of a name": query("/present?ab=1", matched=False),
    "both": query("/both?b=2&a=1", matched=True),
    "both, but one is missing": query("/both?a=1", matched=False),
}


@pytest.mark.parametrize("row", DOMAINS.values(), ids=list(DOMAINS))
def test_domains(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", PORTS_IGNORED.values(), ids=list(PORTS_IGNORED))
def test_domains_with_any_port(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", PATHS.values(), ids=list(PATHS))
def test_paths(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", HEADERS.values(), ids=list(HEADERS))
def test_headers(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)


@pytest.mark.parametrize("row", QUERIES.values(), ids=list(QUERIES))
def test_query_parameters(proxies: ProxyPair, row: Row) -> None:
    proxies.check(row)
