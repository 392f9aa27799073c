"""Checks of route configurations: the router compiles them without another check."""

from __future__ import annotations

import pytest

from sidecar.errors import ConfigError
from tests.support.envoy_config import changed, route_configuration
from tests.support.http_filters import decoded_routes

HOST = "virtual_hosts[0]"
ROUTE = f"{HOST}.routes[0]"


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (f"{HOST}.domains", ["a.test", "A.test"], f"{HOST}.domains[1]"),
        ("virtual_hosts[1]", {"name": "other", "domains": ["a", "*"]}, "virtual_hosts[1].domains[1]"),
        (
            f"{ROUTE}.route",
            {"weighted_clusters": {"clusters": [{"name": "a", "weight": 0}]}},
            f"{ROUTE}.route.weighted_clusters.clusters",
        ),
        (f"{ROUTE}.match", {"safe_regex": {"regex": "("}}, f"{ROUTE}.match.safe_regex.regex"),
        (
            f"{ROUTE}.match.headers",
            [{"name": "x", "string_match": {"safe_regex": {"regex": "("}}}],
            f"{ROUTE}.match.headers[0].string_match.safe_regex.regex",
        ),
        (
            f"{ROUTE}.match.query_parameters",
            [{"name": "x", "string_match": {"safe_regex": {"regex": "("}}}],
            f"{ROUTE}.match.query_parameters[0].string_match.safe_regex.regex",
        ),
        (
            f"{ROUTE}.route.regex_rewrite",
            {"pattern": {"regex": "("}},
            f"{ROUTE}.route.regex_rewrite.pattern.regex",
        ),
        *(
            (
                f"{ROUTE}.route.regex_rewrite",
                {"pattern": {"regex": "a"}, "substitution": substitution},
                f"{ROUTE}.route.regex_rewrite.substitution",
            )
            for substitution in (r"\1", r"\x", "\\", r"\\\²")
        ),
    ],
)
def test_a_route_that_the_router_cannot_compile_is_refused_by_its_path(
    path: str, value: object, where: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        decoded_routes(changed(route_configuration(), path, value))
    assert caught.value.path == where
