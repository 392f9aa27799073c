"""The filters of a chain and their configurations for routes, whichever filters they are."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.http_filters import HeaderMutationConfig, Mutations, RemoveHeader, RouterConfig
from sidecar.config.listener import HttpFilter
from sidecar.config.route import FilterSwitch, ForwardAction
from sidecar.errors import ConfigError
from sidecar.xds.decode.http_filters.registry import HTTP_FILTERS
from sidecar.xds.decode.supported import SUPPORTED
from tests.support.envoy_config import TYPE, changed, route_configuration, router
from tests.support.http_filters import (
    FILTER_CONFIG,
    HEADER_MUTATION,
    HEADER_MUTATION_PER_ROUTE,
    HEALTH_CHECK,
    decoded_chain,
    decoded_routes,
    http_filter,
)

MANAGER = "filter_chains[0].filters[0].typed_config"
UNKNOWN = f"{TYPE}/google.protobuf.Struct"
REMOVE_X = {"mutations": {"request_mutations": [{"remove": "x"}]}}


def test_a_filter_keeps_its_configured_name_and_its_type_says_which_it_is() -> None:
    chain = decoded_chain(
        http_filter("first", HEADER_MUTATION),
        http_filter("second", HEADER_MUTATION, disabled=True),
        last={**router(), "name": "the.router"},
    )
    assert chain == (
        HttpFilter(name="first", config=HeaderMutationConfig()),
        HttpFilter(name="second", config=HeaderMutationConfig(), disabled=True),
        HttpFilter(name="the.router", config=RouterConfig()),
    )


def test_each_filter_is_found_by_the_type_of_its_configuration() -> None:
    ours = [name for name in HTTP_FILTERS if name.startswith("envoy.")]
    packages = {name.removeprefix("envoy.extensions.filters.http.") for name in ours}
    assert packages == {
        "cors.v3.Cors",
        "fault.v3.HTTPFault",
        "grpc_stats.v3.FilterConfig",
        "grpc_web.v3.GrpcWeb",
        "header_mutation.v3.HeaderMutation",
        "health_check.v3.HealthCheck",
        "router.v3.Router",
    }
    for name, decoder in HTTP_FILTERS.items():
        assert name in SUPPORTED
        assert decoder.route is None or decoder.route.type_name in SUPPORTED


def test_an_optional_filter_that_is_not_supported_is_left_out() -> None:
    fault = {"name": "fault", "typed_config": {"@type": UNKNOWN, "value": {}}}
    assert len(decoded_chain({**fault, "is_optional": True})) == 1
    with pytest.raises(ConfigError, match=r"type google\.protobuf\.Struct is not supported here") as caught:
        decoded_chain(fault)
    assert caught.value.path == f"{MANAGER}.http_filters[0].typed_config"


def test_an_optional_filter_that_is_supported_must_be_valid() -> None:
    invalid = http_filter("health", HEALTH_CHECK)
    with pytest.raises(ConfigError, match="pass_through_mode: is required"):
        decoded_chain({**invalid, "is_optional": True})


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ([http_filter("first", HEADER_MUTATION)], "http_filters: the last filter must be the router"),
        ([router(), http_filter("last", HEADER_MUTATION)], r"http_filters\[0\]: the router must be the last"),
        ([router(), router()], r"http_filters\[0\]: the router must be the last"),
        ([{**router(), "disabled": True}], r"http_filters\[0\].disabled: the router cannot be disabled"),
        ([{"name": "envoy.filters.http.router"}], r"http_filters\[0\].typed_config: is required"),
    ],
)
def test_the_router_and_nothing_else_ends_the_chain(filters: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        decoded_chain(*filters[:-1], last=filters[-1])


HOST = "virtual_hosts[0]"
LEVELS = [HOST, f"{HOST}.routes[0]", f"{HOST}.routes[0].route.weighted_clusters.clusters[0]"]


def weighted_routes() -> dict[str, Any]:
    action = {"weighted_clusters": {"clusters": [{"name": "a", "weight": 1}]}}
    return changed(route_configuration(), f"{HOST}.routes[0].route", action)


def test_each_level_of_a_route_keeps_its_own_configuration() -> None:
    document = weighted_routes()
    for index, level in enumerate(LEVELS):
        mutations = {"request_mutations": [{"remove": f"x-{index}"}]}
        config = {"m": {"@type": HEADER_MUTATION_PER_ROUTE, "mutations": mutations}}
        document = changed(document, f"{level}.typed_per_filter_config", config)
    host = decoded_routes(document).virtual_hosts[0]
    action = host.routes[0].action
    assert isinstance(action, ForwardAction)
    assert [
        host.per_filter_config,
        host.routes[0].per_filter_config,
        action.clusters[0].per_filter_config,
    ] == [
        {"m": Mutations(request=(RemoveHeader(name=b"x-0"),))},
        {"m": Mutations(request=(RemoveHeader(name=b"x-1"),))},
        {"m": Mutations(request=(RemoveHeader(name=b"x-2"),))},
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"disabled": True}, FilterSwitch.DISABLED),
        # What is disabled is not decoded.
        ({"disabled": True, "config": {"@type": UNKNOWN, "value": {}}}, FilterSwitch.DISABLED),
        ({"config": {}}, FilterSwitch.ENABLED),
        ({"config": {"@type": UNKNOWN, "value": {}}, "is_optional": True}, FilterSwitch.ENABLED),
        # Health checks have no configuration for a route.
        (
            {"config": {"@type": HEALTH_CHECK, "pass_through_mode": True}, "is_optional": True},
            FilterSwitch.ENABLED,
        ),
        (
            {"config": {"@type": HEADER_MUTATION_PER_ROUTE, **REMOVE_X}},
            Mutations(request=(RemoveHeader(name=b"x"),)),
        ),
    ],
)
def test_a_filter_config_disables_enables_or_configures(entry: dict[str, Any], expected: object) -> None:
    config = {"m": {"@type": FILTER_CONFIG, **entry}}
    found = decoded_routes(changed(route_configuration(), f"{HOST}.typed_per_filter_config", config))
    assert found.virtual_hosts[0].per_filter_config == {"m": expected}


@pytest.mark.parametrize(
    ("entry", "path", "reason"),
    [
        ({"@type": FILTER_CONFIG}, ".config", "is required, unless the filter is disabled"),
        (
            {"@type": FILTER_CONFIG, "config": {"@type": UNKNOWN, "value": {}}},
            ".config",
            "is not supported here",
        ),
        ({"@type": UNKNOWN, "value": {}}, "", "type google.protobuf.Struct is not supported here"),
        # The configuration of the filter, where one for a route belongs.
        (
            {"@type": HEADER_MUTATION},
            "",
            "HeaderMutation is not supported here; use .*HeaderMutationPerRoute",
        ),
        ({"@type": HEALTH_CHECK, "pass_through_mode": True}, "", "HealthCheck is not supported here"),
    ],
)
@pytest.mark.parametrize("level", LEVELS)
def test_an_invalid_configuration_for_a_route_is_refused_by_its_path(
    level: str, entry: dict[str, Any], path: str, reason: str
) -> None:
    document = changed(weighted_routes(), f"{level}.typed_per_filter_config", {"m": entry})
    with pytest.raises(ConfigError, match=reason) as caught:
        decoded_routes(document)
    assert caught.value.path == f"{level}.typed_per_filter_config[m]{path}"


def test_a_route_configuration_as_a_whole_has_none() -> None:
    document = {**route_configuration(), "typed_per_filter_config": {"m": {"@type": FILTER_CONFIG}}}
    with pytest.raises(ConfigError, match="typed_per_filter_config: is not supported"):
        decoded_routes(document)
