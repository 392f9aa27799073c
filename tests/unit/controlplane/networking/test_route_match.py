from __future__ import annotations

from typing import Any

import pytest
from envoy.config.route.v3.route_components_pb2 import RouteMatch

from controlplane.networking.route_match import route_match
from controlplane.resources.http_route import HTTPMatchRequest


def built(**match: Any) -> RouteMatch:
    return route_match(HTTPMatchRequest.model_validate(match))


def test_without_a_uri_every_path_matches() -> None:
    assert built().prefix == "/"


@pytest.mark.parametrize(
    ("uri", "field", "value"),
    [
        ({"exact": "/a"}, "path", "/a"),
        ({"prefix": "/a"}, "prefix", "/a"),
        ({"regex": "/a/[0-9]+"}, "safe_regex", "/a/[0-9]+"),
        ({"exact": "/dé"}, "path", "/d%C3%A9"),
        ({"prefix": "/dé"}, "prefix", "/d%C3%A9"),
    ],
)
def test_uri(uri: dict[str, str], field: str, value: str) -> None:
    match = built(uri=uri)
    assert match.WhichOneof("path_specifier") == field
    assert value in str(getattr(match, field))


def test_query_parameters_outside_ascii_are_as_requests_carry_them() -> None:
    exact, prefix, regex, name = built(
        queryParams={"a": {"exact": "é"}, "b": {"prefix": "é"}, "c": {"regex": "é"}, "é": {}}
    ).query_parameters
    assert exact.string_match.exact == prefix.string_match.prefix == name.name == "%C3%A9"
    assert regex.string_match.safe_regex.regex == "é"


def test_case_counts_unless_ignored() -> None:
    assert built(uri={"prefix": "/a"}).case_sensitive.value
    assert not built(uri={"prefix": "/a"}, ignoreUriCase=True).case_sensitive.value


def test_method_and_authority_are_pseudo_headers() -> None:
    method, authority = built(method={"exact": "GET"}, authority={"prefix": "api."}).headers
    assert (method.name, method.string_match.exact) == (":method", "GET")
    assert (authority.name, authority.string_match.prefix) == (":authority", "api.")


def test_headers_by_each_kind() -> None:
    headers = built(
        headers={"a": {"exact": "1"}, "b": {"prefix": "2"}, "c": {"regex": "3+"}, "d": {}}
    ).headers
    a, b, c, d = headers
    assert a.string_match.exact == "1"
    assert b.string_match.prefix == "2"
    assert c.string_match.safe_regex.regex == "3+"
    assert d.present_match
    assert not any(header.invert_match for header in headers)


def test_an_empty_prefix_is_presence() -> None:
    (header,) = built(headers={"a": {"prefix": ""}}).headers
    assert header.present_match


def test_an_exact_empty_value_is_not_a_presence_match() -> None:
    (header,) = built(headers={"a": {"exact": ""}}).headers
    assert header.HasField("string_match")
    assert header.string_match.WhichOneof("match_pattern") == "exact"


def test_without_a_headers_value_a_missing_header_matches() -> None:
    (header,) = built(withoutHeaders={"a": {"exact": "1"}}).headers
    assert header.invert_match
    assert header.treat_missing_header_as_empty


def test_without_a_header_at_all() -> None:
    (header,) = built(withoutHeaders={"a": {}}).headers
    assert header.invert_match
    assert header.present_match
    assert not header.treat_missing_header_as_empty


def test_query_parameters() -> None:
    a, b, c, d = built(
        queryParams={"a": {"exact": "1"}, "b": {"prefix": "2"}, "c": {"regex": "3+"}, "d": {}}
    ).query_parameters
    assert a.string_match.exact == "1"
    assert b.string_match.prefix == "2"
    assert c.string_match.safe_regex.regex == "3+"
    assert d.present_match
