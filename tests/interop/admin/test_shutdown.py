"""The paths that drain listeners and end the process, compared with Envoy's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.interop.admin.pair import LISTENERS, Pair, Proxy, running_pair
from tests.support.processes import accepts


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A new pair for each test, because the tests stop it."""
    with running_pair(tmp_path) as pair:
        yield pair


def test_drained_listeners_accept_no_more(pair: Pair) -> None:
    for proxy in (pair.envoy, pair.sidecar):
        for query, left in (("?inboundonly", {"web", "secure"}), ("", set())):
            page = proxy.ask(f"/drain_listeners{query}", "POST")
            assert (page.status, page.body) == (200, "OK\n")
            proxy.process.wait_for(partial(only_these_accept, proxy, left), f"only {left} accept")


def only_these_accept(proxy: Proxy, names: set[str]) -> bool:
    return {name for name in LISTENERS if accepts(proxy.ports[name])} == names


def test_quitquitquit_ends_the_process(pair: Pair) -> None:
    for page in pair.ask("/quitquitquit", "POST"):
        assert (page.status, page.body) == (200, "OK\n")
    assert [proxy.process.process.wait(15) for proxy in (pair.envoy, pair.sidecar)] == [0, 0]
