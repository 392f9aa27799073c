from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.route import PathMatchKind, RouteMatch
from sidecar.router.path_match import compile_path_match
from sidecar.router.rewrite import path_only

# Few characters, so that many of the paths match.
texts = st.text("aA/?#", max_size=6)


def expected(kind: PathMatchKind, wanted: str, path: str) -> bool:
    """The definition: the condition holds for the path without its query string and fragment."""
    path = path_only(path.encode()).decode()
    if kind is PathMatchKind.EXACT:
        return path == wanted
    if kind is PathMatchKind.PREFIX:
        return path.startswith(wanted)
    return path == wanted or path.startswith(wanted + "/")


@given(
    st.sampled_from((PathMatchKind.EXACT, PathMatchKind.PREFIX, PathMatchKind.PATH_SEPARATED_PREFIX)),
    texts,
    texts,
    st.booleans(),
)
def test_the_query_string_and_the_fragment_take_no_part(
    kind: PathMatchKind, wanted: str, path: str, case_sensitive: bool
) -> None:
    match = compile_path_match(RouteMatch(path_kind=kind, path=wanted, case_sensitive=case_sensitive))
    if case_sensitive:
        assert match.matches(path.encode()) is expected(kind, wanted, path)
    else:
        assert match.matches(path.encode()) is expected(kind, wanted.lower(), path.lower())


def test_a_regular_expression_is_matched_with_the_whole_path_and_ignores_case_sensitivity() -> None:
    match = compile_path_match(RouteMatch(path_kind=PathMatchKind.REGEX, path="/a.*b", case_sensitive=False))
    assert match.matches(b"/a/b?c")
    assert not match.matches(b"/a/bc")
    assert not match.matches(b"/A/b")
