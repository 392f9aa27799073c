from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.route import (
    CookieHash,
    ForwardAction,
    HashPolicy,
    HeaderHash,
    QueryParameterHash,
    RegexRewrite,
    SourceIpHash,
)
from sidecar.errors import ConfigError
from tests.support.envoy_config import changed, route_configuration
from tests.support.http_filters import decoded_routes

FORWARD = "virtual_hosts[0].routes[0].route"


def decoded(*policies: dict[str, Any]) -> tuple[HashPolicy, ...]:
    routes = decoded_routes(changed(route_configuration(), f"{FORWARD}.hash_policy", list(policies)))
    action = routes.virtual_hosts[0].routes[0].action
    assert isinstance(action, ForwardAction)
    return action.hash_policies


def test_policies_keep_their_order() -> None:
    rewrite = {"pattern": {"regex": "a(.)"}, "substitution": "\\1"}
    assert decoded(
        {"header": {"header_name": "X-User"}, "terminal": True},
        {"header": {"header_name": "x", "regex_rewrite": rewrite}},
        {"connection_properties": {"source_ip": True}},
        {"query_parameter": {"name": "q"}},
    ) == (
        HashPolicy(source=HeaderHash(name="x-user"), terminal=True),
        HashPolicy(
            source=HeaderHash(name="x", regex_rewrite=RegexRewrite(pattern="a(.)", substitution="\\1"))
        ),
        HashPolicy(source=SourceIpHash()),
        HashPolicy(source=QueryParameterHash(name="q")),
    )


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        ({"name": "c"}, CookieHash(name="c")),
        ({"name": "c", "ttl": "0s"}, CookieHash(name="c", ttl_s=0)),
        (
            {"name": "c", "ttl": "60.9s", "path": "/", "attributes": [{"name": "SameSite", "value": "Lax"}]},
            CookieHash(name="c", ttl_s=60, path="/", attributes=(("SameSite", "Lax"),)),
        ),
    ],
)
def test_a_cookie(cookie: dict[str, Any], expected: CookieHash) -> None:
    assert decoded({"cookie": cookie}) == (HashPolicy(source=expected),)


@pytest.mark.parametrize(
    "policy", [{"connection_properties": {"source_ip": False}}, {"filter_state": {"key": "k"}}]
)
def test_a_policy_that_never_finds_anything_to_hash_is_left_out(policy: dict[str, Any]) -> None:
    assert decoded(policy) == ()


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        ({}, ""),
        ({"header": {}}, ".header.header_name"),
        ({"cookie": {"name": "c", "ttl": "-1s"}}, ".cookie.ttl"),
        (
            {"header": {"header_name": "x", "regex_rewrite": {"pattern": {"regex": "("}}}},
            ".header.regex_rewrite.pattern.regex",
        ),
    ],
)
def test_an_invalid_policy_is_refused_by_its_path(policy: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decoded(policy)
    assert caught.value.path == f"{FORWARD}.hash_policy[0]{path}"
