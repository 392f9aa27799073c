"""A short soak, as a test: `make soak` runs it for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.run import soak

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])
SECONDS = 20.0
SEED = 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("concurrency", [1, 2])
async def test_everything_at_once_fails_nothing_that_policy_saves(tmp_path: Path, concurrency: int) -> None:
    report = await soak(tmp_path, seconds=SECONDS, seed=SEED, concurrency=concurrency)
    assert report.violations == []
