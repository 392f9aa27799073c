from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.http_filters import HealthCheckConfig
from sidecar.config.listener import HttpFilter
from sidecar.config.route import HeaderMatch, StringMatch, StringMatchKind
from sidecar.errors import ConfigError
from tests.support.http_filters import HEALTH_CHECK, decoded_chain, http_filter

CONFIG = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config"


def decoded(**config: Any) -> HttpFilter:
    return decoded_chain(http_filter("health", HEALTH_CHECK, **config))[0]


def test_the_filter_answers_by_the_hosts_of_clusters() -> None:
    found = decoded(
        pass_through_mode=False,
        cluster_min_healthy_percentages={"a": {"value": 12.9}, "b": {"value": 100}},
        headers=[{"name": ":path", "string_match": {"exact": "/healthz"}}],
    )
    path = StringMatch(kind=StringMatchKind.EXACT, value="/healthz")
    assert found == HttpFilter(
        name="health",
        config=HealthCheckConfig(
            pass_through=False,
            cluster_min_healthy_percentages={"a": 12, "b": 100},
            headers=(HeaderMatch(name=":path", match=path),),
        ),
        clusters=frozenset(("a", "b")),
    )


def test_a_filter_that_passes_health_checks_through_asks_no_cluster() -> None:
    percentages = {"a": {"value": 50}}
    found = decoded(pass_through_mode=True, cache_time="2.5s", cluster_min_healthy_percentages=percentages)
    assert found == HttpFilter(
        name="health", config=HealthCheckConfig(pass_through=True, cache_time_s=2.5), clusters=frozenset()
    )


@pytest.mark.parametrize(
    ("config", "path", "reason"),
    [
        ({}, "pass_through_mode", "is required"),
        ({"pass_through_mode": False, "cache_time": "1s"}, "cache_time", "without pass_through_mode"),
        (
            {"pass_through_mode": False, "cluster_min_healthy_percentages": {"a": {"value": 101}}},
            "cluster_min_healthy_percentages[a].value",
            "at most 100",
        ),
        ({"pass_through_mode": False, "headers": [{}]}, "headers[0].name", "empty"),
    ],
)
def test_an_invalid_configuration_is_refused_by_its_path(
    config: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        decoded(**config)
    assert caught.value.path == f"{CONFIG}.{path}"
