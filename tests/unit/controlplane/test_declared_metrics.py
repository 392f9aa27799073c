from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.metrics import MOVED_IN, declared

TESTS = Path(__file__).resolve().parents[2]


def test_every_declared_metric_is_moved_by_a_test() -> None:
    assert declared() == set[str]().union(*MOVED_IN.values())
    assert sum(map(len, MOVED_IN.values())) == len(declared())


@pytest.mark.parametrize("file", MOVED_IN)
def test_that_test_says_so(file: str) -> None:
    assert f'MOVED_IN["{file}"]' in (TESTS / file).read_text()
