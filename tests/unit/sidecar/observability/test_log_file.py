from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from sidecar.observability import log_file
from sidecar.observability.log_file import MAX_BUFFERED_BYTES, LogFile


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
        sink.flush()
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
    sink.flush()
    path.rename(rotated)
    sink.write(b"second\n")
    sink.flush()
    assert rotated.read_bytes() == b"first\nsecond\n", "nobody has asked for another file yet"
    sink.reopen()
    sink.write(b"third\n")
    sink.flush()
    sink.close()
    assert (rotated.read_bytes(), path.read_bytes()) == (b"first\nsecond\n", b"third\n")


def test_a_file_that_was_not_renamed_is_appended_to(tmp_path: Path) -> None:
    sink = LogFile(str(tmp_path / "log"))
    for line in (b"first\n", b"second\n"):
        sink.write(line)
        sink.flush()
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
    sink.flush()
    assert (moved / "log").read_bytes() == b"first\n"
    sink.flush()
    assert caplog.text.count("log cannot be reopened: No such file or directory") == 1
    folder.mkdir()
    sink.write(b"second\n")
    sink.flush()
    sink.close()
    assert (moved / "log").read_bytes() == b"first\n"
    assert (folder / "log").read_bytes() == b"second\n"


def test_a_file_that_is_renamed_again_while_it_is_reopened_is_left_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    sink = LogFile(str(path))
    opened = os.open

    def open_and_rename(name: str, *arguments: int) -> int:
        descriptor = opened(name, *arguments)
        if name == str(path) and not (tmp_path / "log.2").exists():
            path.rename(tmp_path / "log.2")
            sink.reopen()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_rename)
    path.rename(tmp_path / "log.1")
    sink.reopen()
    sink.flush()
    sink.write(b"line\n")
    sink.flush()
    sink.close()
    assert path.read_bytes() == b"line\n"


async def test_lines_that_no_thread_has_taken_are_written_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over = asyncio.Event()

    async def never(*_: object) -> None:
        handed_over.set()
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(log_file, "FLUSH_INTERVAL_S", 0)
    monkeypatch.setattr(asyncio, "to_thread", never)  # as while other work has all threads
    sink = LogFile(str(tmp_path / "log"))
    sink.write(b"line\n")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        flushing = group.create_task(sink.run())
        await handed_over.wait()
        flushing.cancel()
    sink.close()
    assert (tmp_path / "log").read_bytes() == b"line\n"


def test_a_pipe_without_a_reader_is_refused(tmp_path: Path) -> None:
    """To wait for a reader would stop everything else."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device or address"):
        LogFile(str(tmp_path / "pipe"))


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(OSError, match="NUL"):
        LogFile("a\0b")


def test_a_reader_that_stops_reading_does_not_keep_the_process_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log_file, "CLOSE_TIMEOUT_S", 0.0)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        sink = LogFile(str(path))
        sink.write(b"x" * 1_000_000)
        flushing = threading.Thread(target=sink.flush)
        flushing.start()
        sink.close()
        flushing.join(10)
        assert not flushing.is_alive()
        written = len(os.read(reader, 1_000_000))
        assert sink.dropped_bytes == 1_000_000 - written
    finally:
        os.close(reader)
    assert "its reader is too slow" in caplog.text


def test_lines_longer_than_a_pipe_holds_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    with os.fdopen(reader, "rb") as pipe:
        sink = LogFile(str(path))
        line = bytes(range(256)) * 1000
        sink.write(line)
        closing = threading.Thread(target=sink.close)
        closing.start()
        assert pipe.read() == line
        closing.join(10)


def test_lines_of_two_writers_of_one_pipe_stay_whole(tmp_path: Path) -> None:
    """As two workers, whose standard output is one pipe."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    received: list[bytes] = []
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        os.set_blocking(reader.fileno(), True)
        sinks = [LogFile(str(path)) for _ in range(2)]
        reading = threading.Thread(target=lambda: received.extend(reader))
        reading.start()
        for sink, letter in zip(sinks, (b"a", b"b"), strict=True):
            for length in range(2000):
                sink.write(letter * (length % 700) + b"\n")
        writing = [threading.Thread(target=sink.close) for sink in sinks]
        for thread in writing:
            thread.start()
        for thread in (*writing, reading):
            thread.join(20)
    assert len(received) == 4000
    assert all(len(set(line)) <= 2 for line in received), "no line has both letters"


def test_a_standard_output_that_has_no_path_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd's journal, which is a socket."""
    reader, writer = os.pipe()
    path = str(tmp_path / "none" / "stdout")
    monkeypatch.setattr(log_file, "_STANDARD_STREAMS", {path: writer})
    sink = LogFile(path)
    sink.write(b"line\n")
    sink.flush()
    sink.reopen()
    sink.write(b"another\n")
    sink.close()
    os.close(writer)  # still open: it is the process's, not the log's
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"line\nanother\n"


async def test_it_is_reopened_although_nothing_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program that renamed the old file waits until it is closed."""
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
