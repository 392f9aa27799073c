from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import cast

import pytest

import sidecar.upstream.dns  # noqa: F401 - a module that logs, in a package that does not
from sidecar.admin.answers import AdminError
from sidecar.admin.logging_levels import logging_levels
from sidecar.admin.state import AdminView

NO_VIEW = cast(AdminView, None)
UPSTREAM, DNS, ROOT = "sidecar.upstream", "sidecar.upstream.dns", "sidecar"


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    names = [name for name in logging.root.manager.loggerDict if name.startswith("sidecar")]
    before = {name: logging.getLogger(name).level for name in names}
    logging.getLogger(DNS)
    logging_levels(NO_VIEW, {"level": "info"})
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def effective(name: str) -> int:
    return logging.getLogger(name).getEffectiveLevel()


def test_a_package_takes_its_modules_with_it() -> None:
    logging_levels(NO_VIEW, {"upstream": "debug"})
    assert effective(DNS) == logging.DEBUG
    assert effective("sidecar.listener.manager") == logging.INFO
    logging_levels(NO_VIEW, {"upstream.dns": "error"})
    assert effective(DNS) == logging.ERROR
    assert effective(UPSTREAM) == logging.DEBUG


def test_a_level_for_all_is_for_all() -> None:
    logging_levels(NO_VIEW, {"sidecar.upstream": "debug"})
    logging_levels(NO_VIEW, {"level": "off"})
    assert effective(DNS) > logging.CRITICAL
    assert effective(ROOT) > logging.CRITICAL


def test_several_paths_at_once_or_none_of_them() -> None:
    logging_levels(NO_VIEW, {"paths": "upstream:debug,listener:error"})
    assert effective(DNS) == logging.DEBUG
    assert effective("sidecar.listener.manager") == logging.ERROR
    with pytest.raises(AdminError, match="unknown logger name 'nonsense'"):
        logging_levels(NO_VIEW, {"paths": "upstream:error,nonsense:debug"})
    assert effective(DNS) == logging.DEBUG


def test_the_answer_lists_loggers_and_levels() -> None:
    answer = str(logging_levels(NO_VIEW, {"upstream": "warning"}))
    assert answer.splitlines()[0] == "active loggers:"
    assert "  sidecar.upstream: warning" in answer.splitlines()
    assert "  sidecar: info" in answer.splitlines()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"level": "loud"}, "unknown logger level 'loud'"),
        ({"paths": "upstream"}, "unknown logger level ''"),
        ({"asyncio": "debug"}, "unknown logger name 'asyncio'"),
        ({"upstream": "debug", "level": "info"}, "use one parameter: "),
    ],
)
def test_invalid_levels_and_loggers_are_named(query: dict[str, str], words: str) -> None:
    with pytest.raises(AdminError, match=words):
        logging_levels(NO_VIEW, query)
