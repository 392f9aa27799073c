"""A pod with a link to the outside, for each family and each variant of iptables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.intercepted_pod import InterceptedPod
from tests.support.network_namespaces import (
    V4,
    V6,
    NetworkNamespace,
    Side,
    linked_namespaces,
    require_namespaces,
)


@pytest.fixture(scope="session")
def namespaces() -> Iterator[tuple[NetworkNamespace, NetworkNamespace]]:
    require_namespaces()
    with linked_namespaces() as pair:
        yield pair


@pytest.fixture(params=[V4, V6], ids=["v4", "v6"])
def side(request: pytest.FixtureRequest) -> Side:
    found: Side = request.param
    return found


@pytest.fixture(params=["nft", "legacy"])
def pod(
    namespaces: tuple[NetworkNamespace, NetworkNamespace], side: Side, request: pytest.FixtureRequest
) -> Iterator[InterceptedPod]:
    """It has no rules yet."""
    with InterceptedPod(*namespaces, side, request.param) as intercepted:
        yield intercepted
