from __future__ import annotations

import os
from pathlib import Path

from tests.support.node_agent.atomic_folder import AtomicFolder, File


def file(content: bytes, mode: int = 0o644) -> File:
    return File(content=content, mode=mode)


def visible(folder: Path) -> dict[str, bytes]:
    names = [path for path in folder.rglob("*") if ".." not in str(path.relative_to(folder))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in names if path.is_file()}


def test_files_are_seen_through_one_link(tmp_path: Path) -> None:
    folder = AtomicFolder(tmp_path)
    folder.write({"token": file(b"1", 0o600), "a/b": file(b"2")})
    assert os.readlink(tmp_path / "token") == "..data/token"
    assert (tmp_path / "token").read_bytes() == b"1"
    assert (tmp_path / "a" / "b").read_bytes() == b"2"
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_a_change_replaces_all_files_and_leaves_none_behind(tmp_path: Path) -> None:
    folder = AtomicFolder(tmp_path)
    folder.write({"old": file(b"1"), "kept": file(b"1")})
    version = os.readlink(tmp_path / "..data")
    folder.write({"kept": file(b"2"), "new": file(b"2")})
    assert visible(tmp_path) == {"kept": b"2", "new": b"2"}
    assert not (tmp_path / version).exists()
    assert (
        len([path for path in tmp_path.iterdir() if path.name.startswith("..")]) == 2
    )  # data and its version


def test_a_reader_that_has_a_file_open_keeps_its_version(tmp_path: Path) -> None:
    folder = AtomicFolder(tmp_path)
    folder.write({"token": file(b"old")})
    with (tmp_path / "token").open("rb") as reader:
        folder.write({"token": file(b"new")})
        assert reader.read() == b"old"


def test_writing_the_same_again_changes_nothing(tmp_path: Path) -> None:
    folder = AtomicFolder(tmp_path)
    folder.write({"token": file(b"1")})
    before = os.readlink(tmp_path / "..data")
    folder.write({"token": file(b"1")})
    assert os.readlink(tmp_path / "..data") == before
