"""The requests of the other modules, sent as HTTP/2."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest

from tests.interop.parity import (
    test_failures,
    test_forwarding,
    test_framing,
    test_immediate_responses,
    test_matching,
    test_rewriting,
)
from tests.interop.parity.comparison import Difference, ProxyPair, Row
from tests.interop.parity.over_http2 import exchange, request_of
from tests.support.raw_http import Answer

MODULES = (
    test_failures,
    test_forwarding,
    test_framing,
    test_immediate_responses,
    test_matching,
    test_rewriting,
)


def rows(module: ModuleType) -> dict[str, Row]:
    return {
        # HTTP/2 ends another thing: the stream. So Envoy's answer is compared only, and not expected.
        f"{table} {name}": replace(row, expect="")
        for table, found in vars(module).items()
        if isinstance(found, dict)
        for name, row in found.items()
        if isinstance(row, Row) and row.ours is None and request_of(row) is not None
    }


OURS: dict[str, tuple[str, str]] = {
    "rewriting FRAMING_OPERATIONS te of responses": ("200 ok", "Envoy sends a response that is not valid"),
}
DIFFERS = {
    "responses REDIRECTS scheme that the first hop spoke": Difference(
        "x-forwarded-proto decides in both versions, in Envoy `:scheme` in HTTP/2", frozenset(("location",))
    )
}
FOUND = {
    f"{module.__name__.rpartition('_')[2]} {name}": row
    for module in MODULES
    for name, row in rows(module).items()
}
ROWS = {
    name: replace(row, ours=OURS.get(name), differs=DIFFERS.get(name, row.differs))
    for name, row in FOUND.items()
}


def converse(port: int, row: Row) -> tuple[list[Answer], bool]:
    request = request_of(row)
    assert request is not None
    return exchange(port, request)


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_a_request_over_http2(row: Row, proxies: ProxyPair) -> None:
    proxies.check(row, converse)


def test_enough_requests_can_be_sent_in_http2() -> None:
    assert len(ROWS) > 150
    assert (OURS.keys() | DIFFERS.keys()) <= ROWS.keys()
