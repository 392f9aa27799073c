"""docs/operations.md quotes log lines that the code writes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Where a quoted line is divided: at values, at a name that stands for a value, and where texts are joined.
DIVISIONS = re.compile(r"…|\bNAME\b|[:;,]")
# Shorter parts of a line are often composed of values.
FEWEST_WORDS = 3


def quoted_parts() -> list[str]:
    """The texts between the values of the quoted lines: the first column of the tables of log lines."""
    _, tables = (ROOT / "docs" / "operations.md").read_text().split("Lines in the control plane's log:")
    columns = [row.split(" | ")[0] for row in tables.splitlines() if row.startswith("| `")]
    lines = chain.from_iterable(re.findall("`([^`]+)`", column) for column in columns)
    parts = chain.from_iterable(map(str.strip, DIVISIONS.split(line)) for line in lines)
    return [part for part in parts if len(part.split()) >= FEWEST_WORDS]


@pytest.fixture(scope="module")
def texts() -> str:
    """All string literals of the code, with f-strings divided at their values."""
    files = chain(ROOT.glob("controlplane/**/*.py"), ROOT.glob("sidecar/**/*.py"))
    return "\n".join(chain.from_iterable(literals(file.read_text()) for file in files))


def literals(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_lines_are_quoted() -> None:
    assert len(quoted_parts()) > 20


@pytest.mark.parametrize("part", quoted_parts())
def test_a_quoted_line_is_written_by_the_code(texts: str, part: str) -> None:
    assert part in texts
