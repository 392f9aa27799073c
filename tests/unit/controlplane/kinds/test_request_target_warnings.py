from __future__ import annotations

from typing import Any

import pytest

from controlplane.kinds.request_target_warnings import request_target_warnings
from controlplane.resources.virtual_service import VirtualService


def words(rule: dict[str, Any]) -> list[str]:
    rule = rule if rule.keys() & {"redirect", "directResponse"} else {"route": [TO_A], **rule}
    return list(request_target_warnings(VirtualService.model_validate({"hosts": ["a.test"], "http": [rule]})))


TO_A = {"destination": {"host": "a.test"}}


@pytest.mark.parametrize("kind", ["exact", "prefix"])
def test_a_path_outside_ascii_is_matched_as_it_is_sent(kind: str) -> None:
    assert words({"match": [{"uri": {kind: "/dé"}}]}) == [
        f"spec.http[0].match[0].uri.{kind}: requests carry '/d%C3%A9', which is matched instead"
    ]


def test_a_regex_is_left_to_its_author() -> None:
    assert words({"match": [{"uri": {"regex": "/d[éè] ?.*"}}]}) == [
        "spec.http[0].match[0].uri.regex: is matched against encoded requests, which carry 'é' as '%C3%A9', "
        "'è' as '%C3%A8', ' ' as '%20'"
    ]


@pytest.mark.parametrize("kind", ["exact", "prefix"])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("api", "a path begins with `/`"),
        ("/a?b=1", "a path does not include the query; use `queryParams`"),
        ("/a#b", "a path does not include the query; use `queryParams`"),
    ],
)
def test_a_value_that_is_not_a_path_matches_nothing(kind: str, value: str, why: str) -> None:
    assert words({"match": [{"uri": {kind: value}}]}) == [
        f"spec.http[0].match[0].uri.{kind}: matches nothing: {why}"
    ]


def test_query_parameters_are_matched_as_they_are_sent() -> None:
    parameters = {
        "é": {},
        "a": {"exact": "b c"},
        "b": {"prefix": "é"},
        "c": {"regex": "é+"},
        "d": {"exact": "d"},
    }
    assert words({"match": [{"queryParams": parameters}]}) == [
        "spec.http[0].match[0].queryParams[é]: requests carry '%C3%A9', which is matched instead",
        "spec.http[0].match[0].queryParams[a].exact: requests carry 'b%20c', which is matched instead",
        "spec.http[0].match[0].queryParams[b].prefix: requests carry '%C3%A9', which is matched instead",
        "spec.http[0].match[0].queryParams[c].regex: is matched against encoded requests, which carry "
        "'é' as '%C3%A9'",
    ]


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ({"match": [{"authority": {"exact": "dé.test"}}]}, "match[0].authority.exact: matches nothing"),
        ({"rewrite": {"authority": "dé.test"}}, "rewrite.authority"),
        ({"redirect": {"authority": "dé.test"}}, "redirect.authority"),
    ],
)
def test_a_host_outside_ascii_causes_a_warning(rule: dict[str, Any], path: str) -> None:
    assert words(rule) == [
        f"spec.http[0].{path}: no request carries the host 'dé.test': names are sent in ASCII (`xn--…`)"
    ]


@pytest.mark.parametrize(
    "match",
    [
        {"uri": {"exact": "/a"}},
        {"uri": {"exact": "*"}},
        {"uri": {"prefix": "/"}},
        {"uri": {"prefix": ""}},
        {"uri": {"prefix": "/d%C3%A9"}},
        {"uri": {"regex": "/a(\\?.*)?"}},
        {"queryParams": {"a": {"exact": "%20"}}},
        {"headers": {"x-name": {"exact": "é"}}},
        {"method": {"exact": "GET"}},
    ],
)
def test_values_that_requests_carry_cause_no_warning(match: dict[str, Any]) -> None:
    assert words({"match": [match], "rewrite": {"uri": "/é"}}) == []
