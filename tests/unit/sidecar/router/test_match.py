from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.route import PathMatchKind, QueryParameterMatch, Route, RouteMatch, StringMatchKind
from sidecar.http.headers import Headers
from sidecar.http.message import Request
from sidecar.router.match import RouteTable
from tests.support.requests import make_request
from tests.support.routes import configuration, exact, header, prefix, route, string, virtual_host


def matched(request: Request, *routes: Route) -> str | None:
    found = RouteTable(configuration(virtual_host(*routes))).match(request)
    return found.name if found is not None else None


def path_match(kind: PathMatchKind, path: str, *, case_sensitive: bool = True) -> RouteMatch:
    return RouteMatch(path_kind=kind, path=path, case_sensitive=case_sensitive)


@pytest.mark.parametrize(
    ("match", "path", "expected"),
    [
        (prefix("/a"), b"/a", True),
        (prefix("/a"), b"/abc?x=/b", True),
        (prefix("/a"), b"/b?/a", False),
        (prefix("/A", case_sensitive=False), b"/abc", True),
        (exact("/a"), b"/a?b=c", True),
        (exact("/a"), b"/a#fragment", True),
        (exact("/a"), b"/a/", False),
        (exact("/a", case_sensitive=False), b"/A", True),
        (exact("/a"), b"/A", False),
        (path_match(PathMatchKind.PATH_SEPARATED_PREFIX, "/a"), b"/a", True),
        (path_match(PathMatchKind.PATH_SEPARATED_PREFIX, "/a"), b"/a/b", True),
        (path_match(PathMatchKind.PATH_SEPARATED_PREFIX, "/a"), b"/ab", False),
        (path_match(PathMatchKind.PATH_SEPARATED_PREFIX, "/a", case_sensitive=False), b"/A/b", True),
        (path_match(PathMatchKind.REGEX, r"/v\d+"), b"/v12?q", True),
        (path_match(PathMatchKind.REGEX, r"/v\d+"), b"/v12/", False),
        (path_match(PathMatchKind.REGEX, r"/v\d+"), b"/x/v12", False),
    ],
)
def test_paths_match_without_their_query_string(match: RouteMatch, path: bytes, expected: bool) -> None:
    assert (matched(make_request(path), route(match, name="it")) == "it") is expected


PRESENT = string("", StringMatchKind.PRESENT)


@pytest.mark.parametrize(
    ("condition", "headers", "expected"),
    [
        (header("x", string("a")), [(b"x", b"a")], True),
        (header("x", string("a")), [(b"x", b"b")], False),
        (header("x", string("a")), [], False),
        (header("x", string("A", ignore_case=True)), [(b"x", b"a")], True),
        (header("x", string("ab", StringMatchKind.PREFIX)), [(b"x", b"abc")], True),
        (header("x", string("bc", StringMatchKind.SUFFIX)), [(b"x", b"abc")], True),
        (header("x", string("b", StringMatchKind.CONTAINS)), [(b"x", b"abc")], True),
        (header("x", string("a.c", StringMatchKind.REGEX)), [(b"x", b"abc")], True),
        (header("x", string("a.", StringMatchKind.REGEX)), [(b"x", b"abc")], False),
        (header("x", string(".*", StringMatchKind.REGEX)), [(b"x", b"jos\xe9")], True),
        # Each value is looked at by itself.
        (header("x", string("b")), [(b"x", b"a"), (b"x", b"b")], True),
        (header("x", string("a,b")), [(b"x", b"a"), (b"x", b"b")], False),
        (header("x", string("b"), invert=True), [(b"x", b"a"), (b"x", b"b")], False),
        (header("x", string("b"), invert=True), [(b"x", b"a"), (b"x", b"c")], True),
        # What is missing never matches, inverted or not, unless it is treated as empty.
        (header("x", string("a"), invert=True), [], False),
        (header("x", string("a"), invert=True, treat_missing_as_empty=True), [], True),
        (header("x", string(""), treat_missing_as_empty=True), [], True),
        (header("x", PRESENT), [(b"x", b"")], True),
        (header("x", PRESENT), [], False),
        (header("x", PRESENT, invert=True), [], True),
        (header("x", PRESENT, invert=True), [(b"x", b"")], False),
        (header("x", PRESENT, treat_missing_as_empty=True), [], True),
        (header("x", string("", StringMatchKind.RANGE, range_start=-1, range_end=10)), [(b"x", b"9")], True),
        (header("x", string("", StringMatchKind.RANGE, range_start=-1, range_end=10)), [(b"x", b"-1")], True),
        (
            header("x", string("", StringMatchKind.RANGE, range_start=-1, range_end=10)),
            [(b"x", b"10")],
            False,
        ),
        (
            header("x", string("", StringMatchKind.RANGE, range_start=-1, range_end=10)),
            [(b"x", b"1a")],
            False,
        ),
        (
            header("x", string("", StringMatchKind.RANGE, range_start=0, range_end=9)),
            [(b"x", b"1" * 99)],
            False,
        ),
        (header(":method", string("GET")), [], True),
        (header(":authority", string("reviews")), [], True),
        (header("host", string("reviews")), [], True),
        (header(":path", string("/p?q=1")), [], True),
        (header(":scheme", string("https"), invert=True), [], True),
    ],
)
def test_header_conditions(condition: object, headers: Headers, expected: bool) -> None:
    request = make_request(b"/p?q=1", headers=headers)
    assert (matched(request, route(prefix(headers=(condition,)), name="it")) == "it") is expected


@pytest.mark.parametrize(
    ("match", "path", "expected"),
    [
        (string("1"), b"/?a=1", True),
        (string("1"), b"/?a=2&a=1", False),  # the first counts
        (string("1"), b"/?b=1", False),
        (string("1"), b"/", False),
        (string("x%20y"), b"/?a=x%20y", True),
        (string("x y"), b"/?a=x%20y", False),
        (string("", StringMatchKind.PRESENT), b"/?a", True),
        (string("", StringMatchKind.PRESENT), b"/?ab", False),
        (string("[0-9]+", StringMatchKind.REGEX), b"/?b&a=12", True),
    ],
)
def test_query_parameter_conditions(match: object, path: bytes, expected: bool) -> None:
    condition = QueryParameterMatch(name="a", match=match)  # type: ignore[arg-type]  # parametrized
    found = matched(make_request(path), route(prefix(query_parameters=(condition,)), name="it"))
    assert (found == "it") is expected


def test_the_first_route_that_matches_wins() -> None:
    routes = (route(exact("/a"), name="1"), route(prefix("/a"), name="2"), route(prefix("/"), name="3"))
    assert [matched(make_request(path), *routes) for path in (b"/a", b"/ab", b"/b")] == ["1", "2", "3"]


def test_all_conditions_must_hold() -> None:
    both = prefix(headers=(header("x", string("1")), header("y", string("2"))))
    assert matched(make_request(headers=[(b"x", b"1")]), route(both)) is None
    assert matched(make_request(headers=[(b"x", b"1"), (b"y", b"2")]), route(both, name="it")) == "it"


def test_connect_takes_its_own_routes_alone() -> None:
    connect = route(RouteMatch(path_kind=PathMatchKind.CONNECT), name="connect")
    everything = route(prefix("/"), name="everything")
    assert matched(make_request(b"", method=b"CONNECT"), everything) is None
    assert matched(make_request(b"", method=b"CONNECT"), everything, connect) == "connect"
    assert matched(make_request(b"/"), connect) is None


def test_a_virtual_host_without_a_matching_route_does_not_fall_back_to_another() -> None:
    table = RouteTable(
        configuration(
            virtual_host(route(exact("/a")), domains=("reviews",)),
            virtual_host(route(prefix()), domains=("*",)),
        )
    )
    assert table.match(make_request(b"/b", authority=b"reviews")) is None
    assert table.match(make_request(b"/b", authority=b"ratings")) is not None


PATHS = st.text(alphabet="/aA?#", max_size=6).map(lambda text: "/" + text)
KINDS = st.sampled_from([PathMatchKind.PREFIX, PathMatchKind.EXACT, PathMatchKind.PATH_SEPARATED_PREFIX])


@given(st.lists(st.tuples(KINDS, st.text(alphabet="/aA", max_size=3), st.booleans()), max_size=5), PATHS)
def test_the_table_agrees_with_a_naive_oracle(
    wanted: list[tuple[PathMatchKind, str, bool]], path: str
) -> None:
    routes = [
        route(path_match(kind, "/" + pattern, case_sensitive=sensitive), name=str(index))
        for index, (kind, pattern, sensitive) in enumerate(wanted)
    ]
    path_only, _, _ = path.partition("?")[0].partition("#")
    fitting = [
        str(index)
        for index, (kind, pattern, sensitive) in enumerate(wanted)
        if naively_fits(
            kind,
            "/" + pattern if sensitive else "/" + pattern.lower(),
            path_only if sensitive else path_only.lower(),
        )
    ]
    assert matched(make_request(path.encode()), *routes) == (fitting[0] if fitting else None)


def naively_fits(kind: PathMatchKind, pattern: str, path: str) -> bool:
    if kind is PathMatchKind.PREFIX:
        return path[: len(pattern)] == pattern
    if kind is PathMatchKind.EXACT:
        return path == pattern
    return (path + "/").startswith(pattern + "/")
