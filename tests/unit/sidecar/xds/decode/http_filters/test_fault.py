from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.fraction import ALL, NONE, Fraction
from sidecar.config.http_filters import FaultAbort, FaultConfig, FaultDelay, FaultRateLimit
from sidecar.config.route import HeaderMatch, StringMatch, StringMatchKind
from sidecar.errors import ConfigError
from tests.support.envoy_config import changed, route_configuration
from tests.support.http_filters import FAULT, decoded_chain, decoded_routes, http_filter

CONFIG = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config"
ALWAYS = {"numerator": 100}


def decoded(**config: Any) -> object:
    return decoded_chain(http_filter("fault", FAULT, **config))[0].config


def test_fixed_faults() -> None:
    assert decoded(
        delay={"fixed_delay": "1.5s", "percentage": ALWAYS},
        abort={"http_status": 503, "percentage": {"numerator": 7, "denominator": "MILLION"}},
        response_rate_limit={"fixed_limit": {"limit_kbps": 64}, "percentage": ALWAYS},
        upstream_cluster="a",
        downstream_nodes=["n", "m"],
        headers=[{"name": "X-A", "string_match": {"exact": "1"}}],
        max_active_faults=3,
    ) == FaultConfig(
        delay=FaultDelay(fixed_s=1.5, percentage=ALL),
        abort=FaultAbort(http_status=503, percentage=Fraction(numerator=7, denominator=1_000_000)),
        response_rate_limit=FaultRateLimit(fixed_kib_per_s=64, percentage=ALL),
        upstream_cluster="a",
        downstream_nodes=frozenset((b"n", b"m")),
        headers=(HeaderMatch(name="x-a", match=StringMatch(kind=StringMatchKind.EXACT, value="1")),),
        max_active_faults=3,
    )


def test_faults_by_the_headers_of_the_request() -> None:
    assert decoded(
        delay={"header_delay": {}}, abort={"header_abort": {}}, response_rate_limit={"header_limit": {}}
    ) == FaultConfig(
        delay=FaultDelay(fixed_s=None, percentage=NONE),
        abort=FaultAbort(percentage=NONE),
        response_rate_limit=FaultRateLimit(fixed_kib_per_s=None, percentage=NONE),
    )


def test_a_route_has_the_same_message() -> None:
    config = {"fault": {"@type": FAULT, "abort": {"grpc_status": 14, "percentage": ALWAYS}}}
    document = changed(route_configuration(), "virtual_hosts[0].typed_per_filter_config", config)
    found = decoded_routes(document).virtual_hosts[0].per_filter_config
    assert found == {"fault": FaultConfig(abort=FaultAbort(grpc_status=14, percentage=ALL))}


@pytest.mark.parametrize(
    ("config", "path", "reason"),
    [
        ({"abort": {"http_status": 199}}, "abort.http_status", "at least 200"),
        ({"abort": {"http_status": 600}}, "abort.http_status", "less than 600"),
        ({"abort": {}}, "abort", "one of http_status, grpc_status, header_abort is required"),
        ({"delay": {"fixed_delay": "0s"}}, "delay.fixed_delay", "greater than 0"),
        ({"delay": {}}, "delay", "one of fixed_delay, header_delay is required"),
        (
            {"response_rate_limit": {"fixed_limit": {}}},
            "response_rate_limit.fixed_limit.limit_kbps",
            "at least 1",
        ),
        *(
            ({key: "fault.mine"}, key, "is not supported")
            for key in (
                "delay_percent_runtime",
                "abort_percent_runtime",
                "delay_duration_runtime",
                "abort_http_status_runtime",
                "max_active_faults_runtime",
                "response_rate_limit_percent_runtime",
                "abort_grpc_status_runtime",
            )
        ),
    ],
)
def test_an_invalid_configuration_is_refused_by_its_path(
    config: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        decoded(**config)
    assert caught.value.path == f"{CONFIG}.{path}"
