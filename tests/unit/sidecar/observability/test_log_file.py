from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.observability.log_file import MAX_BUFFERED_BYTES, LogFile


def flush(sink: LogFile) -> None:
    """What its task does each second."""
    sink._flush(sink._take())


def test_a_slow_sink_loses_lines_not_memory(tmp_path: Path) -> None:
    sink = LogFile(str(tmp_path / "log"))
    line = b"x" * 65536
    for _ in range(2 * MAX_BUFFERED_BYTES // len(line)):
        sink.write(line)
    assert sink.dropped_bytes == MAX_BUFFERED_BYTES
    sink.close()
    assert (tmp_path / "log").stat().st_size == MAX_BUFFERED_BYTES


def test_a_sink_that_refuses_loses_lines_and_is_written_to_again(caplog: pytest.LogCaptureFixture) -> None:
    sink = LogFile("/dev/full")
    for _ in range(2):
        sink.write(b"line\n")
        flush(sink)
    assert sink.dropped_bytes == 10
    assert [record.getMessage() for record in caplog.records] == [
        "access log /dev/full: No space left on device"
    ]
    sink.write(b"line\n")
    sink.close()


def test_a_renamed_file_is_left_when_it_is_reopened(tmp_path: Path) -> None:
    path, rotated = tmp_path / "log", tmp_path / "log.1"
    sink = LogFile(str(path))
    sink.write(b"first\n")
    flush(sink)
    path.rename(rotated)
    sink.write(b"second\n")
    flush(sink)
    assert rotated.read_bytes() == b"first\nsecond\n", "nobody has asked for another file yet"
    sink.reopen()
    sink.write(b"third\n")
    flush(sink)
    sink.close()
    assert (rotated.read_bytes(), path.read_bytes()) == (b"first\nsecond\n", b"third\n")


def test_a_file_that_was_not_renamed_is_appended_to(tmp_path: Path) -> None:
    sink = LogFile(str(tmp_path / "log"))
    for line in (b"first\n", b"second\n"):
        sink.write(line)
        flush(sink)
        sink.reopen()
    sink.close()
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"


def test_the_old_file_is_kept_until_the_path_can_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    sink = LogFile(str(folder / "log"))
    folder.rename(moved)
    sink.reopen()
    sink.write(b"first\n")
    flush(sink)
    assert (moved / "log").read_bytes() == b"first\n"
    assert "log cannot be reopened: No such file or directory" in caplog.text
    folder.mkdir()
    sink.write(b"second\n")
    flush(sink)
    sink.close()
    assert (moved / "log").read_bytes() == b"first\n"
    assert (folder / "log").read_bytes() == b"second\n"


async def test_it_is_reopened_although_nothing_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has renamed the old file waits for it to be let go of."""
    monkeypatch.setattr("sidecar.observability.log_file.FLUSH_INTERVAL_S", 0)
    path = tmp_path / "log"
    sink = LogFile(str(path))
    path.rename(tmp_path / "log.1")
    sink.reopen()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        flushing = group.create_task(sink.run())
        while not path.exists():
            await asyncio.sleep(0)
        flushing.cancel()
    sink.close()
