from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from controlplane.logs import configure_logging


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_lines_hold_one_event_each(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    logging.getLogger("controlplane.ca").warning("refused %s:\n%s", "a", 'with "quotes"')
    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "warning"
    assert line["scope"] == "controlplane.ca"
    assert line["msg"] == 'refused a:\nwith "quotes"'


def test_an_exception_is_part_of_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("failed")
    assert "ValueError: broken" in json.loads(capsys.readouterr().err)["stack"]


def test_the_level_is_a_floor(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning", "text")
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert capsys.readouterr().err.endswith("WARNING x: loud\n")
