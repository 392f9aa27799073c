from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from controlplane.ca import state_files
from controlplane.errors import SettingsError


def test_a_secret_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key.pem"
    assert state_files.load_or_create(path, lambda: b"secret") == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["key.pem"], "no temporary file is left behind"


def test_an_existing_secret_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    state_files.load_or_create(path, lambda: b"first")
    assert state_files.load_or_create(path, lambda: b"second") == b"first"


def test_processes_that_start_together_agree_on_one_secret(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    barrier = threading.Barrier(8)
    results: list[bytes] = []

    def start(number: int) -> None:
        def make() -> bytes:
            barrier.wait(10)  # none of them found a file, and each generated a secret
            return str(number).encode()

        results.append(state_files.load_or_create(path, make))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert set(results) == {path.read_bytes()}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604])
def test_a_secret_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"secret")
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"key.pem.*mode {mode:04o}.*chmod 600"):
        state_files.read_secret(path)


def test_a_secret_file_of_another_user_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"secret")
    path.chmod(0o600)
    own = path.stat()
    monkeypatch.setattr("os.fstat", lambda _: os.stat_result((*own[:4], 4711, *own[5:])))
    with pytest.raises(SettingsError, match=r"key.pem contains a private key, but belongs to user 4711"):
        state_files.read_secret(path)


def test_a_secret_is_never_written_through_a_symbolic_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "key.pem").symlink_to(elsewhere)
    with pytest.raises(SettingsError, match="cannot read"):
        state_files.load_or_create(tmp_path / "key.pem", lambda: b"secret")
    assert not elsewhere.exists()
    elsewhere.write_bytes(b"theirs")
    state_files.replace(tmp_path / "key.pem", b"ours", mode=0o600)
    assert elsewhere.read_bytes() == b"theirs"


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_umask_has_no_effect(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        state_files.load_or_create(tmp_path / "key.pem", lambda: b"secret")
        state_files.replace(tmp_path / "root-cert.pem", b"", mode=0o644)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("key.pem", "root-cert.pem")]
    assert modes == [0o600, 0o644]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(SettingsError, match="cannot write"):
        state_files.replace(tmp_path / "taken", b"", mode=0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*absent.pem: No such file"):
        state_files.read_secret(tmp_path / "absent.pem")
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot create"):
        state_files.load_or_create(tmp_path / "file" / "key.pem", lambda: b"")


def test_a_replaced_file_has_its_mode_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "root-cert.pem"
    path.write_bytes(b"a longer content before")
    state_files.replace(path, b"after", mode=0o644)
    assert path.read_bytes() == b"after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(SettingsError, match=r"cannot write .*root-cert.pem/x: File exists"):
        state_files.replace(path / "x", b"", mode=0o644)
