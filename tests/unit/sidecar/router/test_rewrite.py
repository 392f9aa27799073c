from __future__ import annotations

import pytest

from sidecar.config.route import PathMatchKind, RegexRewrite, RouteMatch
from sidecar.http.headers import Headers
from sidecar.router.rewrite import compile_path_rewrite, rewrite_authority, rewrite_path
from tests.support.requests import make_request
from tests.support.routes import exact, prefix


@pytest.mark.parametrize(
    ("match", "replacement", "path", "expected"),
    [
        (prefix("/w/"), "/", b"/w/x/y?z", b"/x/y?z"),
        (prefix("/w"), "/n", b"/w", b"/n"),
        (prefix("/w", case_sensitive=False), "/n", b"/W/x", b"/n/x"),
        (exact("/w"), "/n", b"/w?x=1", b"/n?x=1"),
        (RouteMatch(path_kind=PathMatchKind.PATH_SEPARATED_PREFIX, path="/w"), "/n", b"/w/x", b"/n/x"),
        (RouteMatch(path_kind=PathMatchKind.REGEX, path="/w/.*"), "/n", b"/w/x/y?z", b"/n?z"),
    ],
)
def test_prefix_rewrite_replaces_the_matched_prefix(
    match: RouteMatch, replacement: str, path: bytes, expected: bytes
) -> None:
    rewrite = compile_path_rewrite(match, replacement, None)
    assert rewrite is not None
    assert rewrite(path) == expected


@pytest.mark.parametrize(
    ("pattern", "substitution", "path", "expected"),
    [
        ("a", "b", b"/banana?a", b"/bbnbnb?a"),
        ("^/x/([^/]+)(/.*)$", r"\2/instance/\1", b"/x/foo/v1/api?x", b"/v1/api/instance/foo?x"),
        ("a", r"[\0]", b"/a#a", b"/[a]#a"),
        ("a", r"\\", b"/a", b"/\\"),
        ("(a)|b", r"<\1>", b"/ab", b"/<a><>"),
    ],
)
def test_regex_rewrite_replaces_every_match_in_the_path_alone(
    pattern: str, substitution: str, path: bytes, expected: bytes
) -> None:
    rewrite = compile_path_rewrite(prefix(), "", RegexRewrite(pattern=pattern, substitution=substitution))
    assert rewrite is not None
    assert rewrite(path) == expected


def test_the_original_path_goes_on_in_a_header() -> None:
    request = make_request(b"/old", headers=[(b"x-envoy-original-path", b"/forged")])
    rewrite_path(request, lambda path: b"/new")
    assert request.path == b"/new"
    assert request.headers == [(b"x-envoy-original-path", b"/old")]


@pytest.mark.parametrize(
    ("headers", "forwarded"),
    [
        ([], b"old"),
        ([(b"x-forwarded-host", b"a")], b"a,old"),
        ([(b"x-forwarded-host", b"a, old")], b"a, old"),
        ([(b"x-forwarded-host", b"a"), (b"x-forwarded-host", b"b")], b"a,b,old"),
    ],
)
def test_the_original_authority_is_appended_once(headers: Headers, forwarded: bytes) -> None:
    request = make_request(authority=b"old", headers=headers)
    rewrite_authority(request, b"new", append_x_forwarded_host=True)
    assert request.authority == b"new"
    assert dict(request.headers)[b"x-envoy-original-host"] == b"old"
    assert [value for name, value in request.headers if name == b"x-forwarded-host"][-1:] == [forwarded]
