"""Paths that change a state, and paths and parameters that are refused, compared with Envoy's."""

from __future__ import annotations

import pytest

from tests.interop.admin.pair import Pair, lines
from tests.support.admin_client import Page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/config_dump?resource=nonsense", 404),
        ("/config_dump?name_regex=(", 400),
        ("/stats?filter=(", 400),
        ("/clusters?filter=(", 400),
        ("/stats?format=nonsense", 400),
    ],
)
def test_a_wrong_parameter_is_refused(pair: Pair, path: str, status: int) -> None:
    envoy, sidecar = pair.ask(path)
    assert (envoy.status, sidecar.status) == (status, status)
    assert sidecar.body.count("\n") == 1


def test_an_unknown_path_is_answered_with_help(pair: Pair) -> None:
    envoy, sidecar = pair.ask("/nonsense")
    assert (envoy.status, sidecar.status) == (404, 404)
    assert envoy.body.splitlines()[0] == sidecar.body.splitlines()[0] == "invalid path. admin commands are:"
    envoy, sidecar = pair.ask("/help")
    assert commands(sidecar) - commands(envoy) == {"  /dns"}  # the name table, which Envoy does not know
    assert sidecar.body.splitlines()[0] == envoy.body.splitlines()[0]


def commands(page: Page) -> set[str]:
    return {line.partition(":")[0] for line in lines(page) if line.startswith("  /")}


@pytest.mark.parametrize("path", ["/logging", "/drain_listeners", "/quitquitquit"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_path_that_changes_state_needs_a_post(pair: Pair, path: str, method: str) -> None:
    envoy, sidecar = pair.ask(path, method)
    assert sidecar == envoy
    assert sidecar.status == 405


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?level=info", 200),
        ("?upstream=debug", 200),
        ("?paths=upstream:debug,router:info", 200),
        ("?level=nonsense", 400),
        ("?nonsense=debug", 400),
        ("?level=info&upstream=debug", 400),
    ],
)
def test_logging_takes_the_same_parameters(pair: Pair, query: str, status: int) -> None:
    envoy, sidecar = pair.ask(f"/logging{query}", "POST")
    assert (envoy.status, sidecar.status) == (status, status)
    if status == 200:
        assert envoy.body.splitlines()[0] == sidecar.body.splitlines()[0] == "active loggers:"
