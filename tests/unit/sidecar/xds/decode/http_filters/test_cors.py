from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.fraction import NONE, Fraction
from sidecar.config.http_filters import CorsConfig, CorsPolicy
from sidecar.config.listener import HttpFilter
from sidecar.config.route import StringMatch, StringMatchKind
from sidecar.errors import ConfigError
from tests.support.envoy_config import changed, route_configuration
from tests.support.http_filters import CORS, CORS_POLICY, decoded_chain, decoded_routes, http_filter

LEVEL = "virtual_hosts[0].typed_per_filter_config"


def policy(**fields: Any) -> object:
    document = changed(route_configuration(), LEVEL, {"cors": {"@type": CORS_POLICY, **fields}})
    return decoded_routes(document).virtual_hosts[0].per_filter_config["cors"]


def test_the_filter_itself_has_no_options() -> None:
    found = decoded_chain(http_filter("cors", CORS))[0]
    assert found == HttpFilter(name="cors", config=CorsConfig())


def test_a_policy_is_that_of_a_route() -> None:
    assert policy() == CorsPolicy()
    assert policy(
        allow_origin_string_match=[{"suffix": ".a.test", "ignore_case": True}],
        allow_methods="GET,PUT",
        allow_headers="x-a",
        expose_headers="x-b",
        max_age="60",
        allow_credentials=False,
        allow_private_network_access=True,
        forward_not_matching_preflights=False,
        filter_enabled={"default_value": {"numerator": 5, "denominator": "TEN_THOUSAND"}},
        shadow_enabled={"default_value": {"numerator": 1, "denominator": "MILLION"}},
    ) == CorsPolicy(
        allow_origins=(StringMatch(kind=StringMatchKind.SUFFIX, value=".a.test", ignore_case=True),),
        allow_methods="GET,PUT",
        allow_headers="x-a",
        expose_headers="x-b",
        max_age="60",
        allow_credentials=False,
        allow_private_network_access=True,
        forward_not_matching_preflights=False,
        enabled=Fraction(numerator=5, denominator=10_000),
        shadow_enabled=Fraction(numerator=1, denominator=1_000_000),
    )


def test_a_share_without_a_numerator_is_none() -> None:
    found = policy(filter_enabled={"default_value": {}})
    assert isinstance(found, CorsPolicy)
    assert found.enabled == NONE


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"allow_methods": "GET\r\nx-a: b"}, "allow_methods", "carriage return"),
        ({"expose_headers": "x\0"}, "expose_headers", "NUL"),
        (
            {"allow_origin_string_match": [{"safe_regex": {"regex": "("}}]},
            "allow_origin_string_match[0].safe_regex.regex",
            "not a valid RE2",
        ),
        (
            {"filter_enabled": {"runtime_key": "cors.enabled", "default_value": {}}},
            "filter_enabled.runtime_key",
            "is not supported",
        ),
        ({"filter_enabled": {}}, "filter_enabled.default_value", "is required"),
        (
            {"shadow_enabled": {"default_value": {"denominator": 3}}},
            "shadow_enabled.default_value.denominator",
            "3 is not a value",
        ),
    ],
)
def test_an_invalid_policy_is_refused_by_its_path(fields: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        policy(**fields)
    assert caught.value.path == f"{LEVEL}[cors].{path}"
