from __future__ import annotations

from typing import Any

import pytest

from sidecar.errors import ConfigError
from tests.support.decoded import listener_with
from tests.support.envoy_config import TYPE, listener, tcp_proxy

INSPECTOR = f"{TYPE}/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
ORIGINAL_DST = f"{TYPE}/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"


def span(start: int, end: int) -> dict[str, Any]:
    return {"destination_port_range": {"start": start, "end": end}}


def disabled(predicate: dict[str, Any], type_url: str = INSPECTOR) -> tuple[range, ...]:
    listener_filter = {"name": "a", "typed_config": {"@type": type_url}, "filter_disabled": predicate}
    return listener_with(
        {**listener("l", tcp_proxy()), "listener_filters": [listener_filter]}
    ).ports_without_http_inspector


@pytest.mark.parametrize(
    ("predicate", "ports"),
    [
        (span(9080, 9081), {9080}),
        (span(1, 70000), set(range(1, 65536))),
        ({"any_match": True}, set(range(65536))),
        ({"not_match": span(10, 65536)}, set(range(10))),
        ({"or_match": {"rules": [span(1, 3), span(2, 5)]}}, {1, 2, 3, 4}),
        ({"or_match": {"rules": [span(1, 2), span(7, 8)]}}, {1, 7}),
        ({"and_match": {"rules": [span(1, 5), {"not_match": span(2, 4)}]}}, {1, 4}),
        ({"and_match": {"rules": [span(1, 2), span(7, 8)]}}, set()),
        ({"not_match": {"any_match": True}}, set()),
    ],
)
def test_the_ports_for_which_an_inspector_is_disabled(predicate: dict[str, Any], ports: set[int]) -> None:
    ranges = disabled(predicate)
    assert {port for each in ranges for port in each} == ports
    assert sum(map(len, ranges)) == len(ports)


@pytest.mark.parametrize(
    ("predicate", "path", "reason"),
    [
        ({}, "filter_disabled", "one of .* is required"),
        ({"or_match": {"rules": [span(1, 2)]}}, "filter_disabled.or_match.rules", "at least 2 items"),
    ],
)
def test_an_invalid_predicate_is_refused(predicate: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        disabled(predicate)
    assert caught.value.path == f"listener_filters[0].{path}"


def test_the_original_destination_is_looked_up_for_all_ports() -> None:
    with pytest.raises(ConfigError) as caught:
        disabled(span(1, 2), ORIGINAL_DST)
    assert caught.value.path == "listener_filters[0].filter_disabled"
