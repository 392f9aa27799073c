from __future__ import annotations

import asyncio
import logging
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from sidecar.xds.persistence import LastGoodWriter, read_last_good, write_last_good
from sidecar.xds.store import RawResource

SAVED = [RawResource(name="c", version="1", type_url="t", body=b"\x00\xff")]


def file_in(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_written_resources_are_read_again_and_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    cache_dir = tmp_path / "state"
    write_last_good(cache_dir, "node", SAVED)

    assert read_last_good(cache_dir, "node") == SAVED
    assert stat.S_IMODE(file_in(cache_dir).stat().st_mode) == 0o600
    assert stat.S_IMODE(cache_dir.stat().st_mode) == 0o700


def test_a_missing_file_is_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_last_good(tmp_path, "node") == []
    assert not caplog.records


@pytest.mark.parametrize("place", [0, 5, 60, -1, -20])
def test_a_damaged_file_is_ignored_with_a_warning(
    tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    write_last_good(tmp_path, "node", SAVED)
    content = bytearray(file_in(tmp_path).read_bytes())
    content[place] ^= 0x11
    file_in(tmp_path).write_bytes(content)

    with caplog.at_level(logging.WARNING):
        assert read_last_good(tmp_path, "node") == []
    assert "ignored the last good configuration" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{}", b"[]\n[]", b"null\nnull", b"\xff", b"[" * 10_000])
def test_a_file_of_another_format_is_ignored(tmp_path: Path, content: bytes) -> None:
    write_last_good(tmp_path, "node", SAVED)
    file_in(tmp_path).write_bytes(content)
    assert read_last_good(tmp_path, "node") == []


def test_a_file_of_another_node_or_version_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_last_good(tmp_path, "node", SAVED)
    assert read_last_good(tmp_path, "other") == []
    file = file_in(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"configuration, 1", b"configuration, 2", 1))
    assert read_last_good(tmp_path, "node") == []
    assert "it is another node's" in caplog.text
    assert "it is of the format" in caplog.text


def test_a_failed_write_keeps_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_last_good(tmp_path, "node", SAVED)

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_last_good(tmp_path, "node", [])
    assert read_last_good(tmp_path, "node") == SAVED
    assert len(list(tmp_path.iterdir())) == 1


async def test_changes_are_written_together_and_the_last_one_when_the_process_ends(tmp_path: Path) -> None:
    collected: list[list[RawResource]] = []

    def collect() -> list[RawResource]:
        collected.append(SAVED)
        return SAVED

    writer = LastGoodWriter(tmp_path, "node", collect, debounce_s=3600)
    task = asyncio.create_task(writer.run())
    for _ in range(3):
        writer.changed()
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert read_last_good(tmp_path, "node") == SAVED
    assert len(collected) == 1


async def test_a_directory_that_cannot_be_written_to_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    writer = LastGoodWriter(tmp_path / "file", "node", lambda: SAVED, debounce_s=0)
    task = asyncio.create_task(writer.run())
    writer.changed()
    async with asyncio.timeout(10):
        while "cannot be written" not in caplog.text:
            await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
