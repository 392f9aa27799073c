from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import cast

import pytest

import sidecar.upstream.dns  # noqa: F401 - a module that logs, in a package that does not
from sidecar.admin.answers import AdminError
from sidecar.admin.logging_levels import logging_levels
from sidecar.admin.state import AdminView
from sidecar.observability.log_levels import set_log_levels


class OneProcess:
    """The part of an `AdminView` that is used."""

    async def set_log_levels(self, levels: Mapping[str, int]) -> None:
        set_log_levels(levels)


VIEW = cast(AdminView, OneProcess())

UPSTREAM, DNS, ROOT = "sidecar.upstream", "sidecar.upstream.dns", "sidecar"


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    names = [name for name in logging.root.manager.loggerDict if name.startswith("sidecar")]
    before = {name: logging.getLogger(name).level for name in names}
    logging.getLogger(DNS)
    set_log_levels({"sidecar": logging.INFO})
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def effective(name: str) -> int:
    return logging.getLogger(name).getEffectiveLevel()


async def test_a_package_takes_its_modules_with_it() -> None:
    await logging_levels(VIEW, {"upstream": "debug"})
    assert effective(DNS) == logging.DEBUG
    assert effective("sidecar.listener.manager") == logging.INFO
    await logging_levels(VIEW, {"upstream.dns": "error"})
    assert effective(DNS) == logging.ERROR
    assert effective(UPSTREAM) == logging.DEBUG


async def test_a_level_for_all_is_for_all() -> None:
    await logging_levels(VIEW, {"sidecar.upstream": "debug"})
    await logging_levels(VIEW, {"level": "off"})
    assert effective(DNS) > logging.CRITICAL
    assert effective(ROOT) > logging.CRITICAL


async def test_several_paths_at_once_or_none_of_them() -> None:
    await logging_levels(VIEW, {"paths": "upstream:debug,listener:error"})
    assert effective(DNS) == logging.DEBUG
    assert effective("sidecar.listener.manager") == logging.ERROR
    with pytest.raises(AdminError, match="unknown logger name 'nonsense'"):
        await logging_levels(VIEW, {"paths": "upstream:error,nonsense:debug"})
    assert effective(DNS) == logging.DEBUG


async def test_the_answer_lists_loggers_and_levels() -> None:
    answer = str(await logging_levels(VIEW, {"upstream": "warning"}))
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
async def test_invalid_levels_and_loggers_are_named(query: dict[str, str], words: str) -> None:
    with pytest.raises(AdminError, match=words):
        await logging_levels(VIEW, query)
