from __future__ import annotations

import asyncio

import pytest

from sidecar.errors import SidecarError
from sidecar.lifetime import Lifetime

DEADLINE_S = 5.0


async def test_failing_task_ends_the_process_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("a defect")

    lifetime = Lifetime()
    lifetime.start("xds", fail())
    with pytest.raises(SidecarError, match=r"^xds: ZeroDivisionError: a defect$"):
        await asyncio.wait_for(lifetime.wait(), DEADLINE_S)
    assert "Traceback" in caplog.text, "the log shows where the defect is"


async def test_sidecar_error_of_a_task_is_passed_on_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse() -> None:
        raise SidecarError("no such control plane")

    lifetime = Lifetime()
    lifetime.start("xds", refuse())
    with pytest.raises(SidecarError, match=r"^no such control plane$"):
        await asyncio.wait_for(lifetime.wait(), DEADLINE_S)
    assert "Traceback" not in caplog.text


async def test_task_that_is_done_ends_nothing() -> None:
    lifetime = Lifetime()
    lifetime.start("xds", asyncio.sleep(0))
    wait = asyncio.create_task(lifetime.wait())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not wait.done()
    lifetime.stop()
    await wait


async def test_the_end_cancels_the_tasks_and_waits_for_them() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("xds")

    lifetime = Lifetime()
    lifetime.start("xds", work())
    await asyncio.sleep(0)
    lifetime.stop()
    await lifetime.wait()
    assert ended == ["xds"]


async def test_first_end_counts() -> None:
    lifetime = Lifetime()
    lifetime.fail(SidecarError("first"))
    lifetime.fail(SidecarError("second"))
    lifetime.stop()
    with pytest.raises(SidecarError, match="first"):
        await lifetime.wait()
