"""The file in which a folder's control plane stores last good versions: writing and reading."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest

from controlplane.ca import state_files
from controlplane.errors import SettingsError
from controlplane.kinds.registry import KINDS
from controlplane.last_good.file import LastGoodFile
from controlplane.model.store import Store
from controlplane.sources.files import FolderSource
from tests.support.documents import destination, destination_rule, key_of, service, virtual_service
from tests.support.mesh_folder import MeshFolder

GOOD = virtual_service("reviews", ["reviews"], destination("reviews", "v3"))
FAULTY = virtual_service("reviews", ["reviews"], {"destination": {"host": "reviews", "colour": "blue"}})
KEY = key_of(GOOD)


class Process:
    """A control plane's store, folder and state since its start."""

    def __init__(self, path: Path) -> None:
        self.full = False
        self.store = Store(KINDS)
        self.file = LastGoodFile(path / "quarantine.json", self.store, replace=self._replace)
        self.source = FolderSource(path / "mesh", self.store, lambda: None, had=self.file.load())
        self.look()

    def _replace(self, path: Path, content: bytes, *, mode: int) -> None:
        if self.full:
            raise SettingsError(f"cannot write {path}: No space left on device")
        state_files.replace(path, content, mode=mode)

    def look(self) -> None:
        self.source.load()
        self.file.note_build(*self.store.build())

    @property
    def serves(self) -> str | None:
        snapshot, _ = self.store.build()
        found = [each.spec.http[0].route[0].destination.subset for each in snapshot.virtual_services]
        return found[0] if found else None

    def reasons(self) -> str:
        status = self.store.status(KEY)
        return "" if status is None else "; ".join(status.reasons)


@pytest.fixture
def mesh(tmp_path: Path) -> MeshFolder:
    folder = MeshFolder(tmp_path / "mesh")
    folder.write("base", service("reviews"), destination_rule("reviews", "reviews", "v1", "v3"))
    folder.write("route", GOOD)
    return folder


@pytest.fixture
def quarantined(mesh: MeshFolder, tmp_path: Path) -> Path:
    """Returns the file that the last process has written."""
    process = Process(tmp_path)
    mesh.write("route", FAULTY)
    process.look()
    assert process.serves == "v3"
    return tmp_path / "quarantine.json"


def test_the_names_of_valid_resources_are_stored(mesh: MeshFolder, tmp_path: Path) -> None:
    Process(tmp_path)
    kept = json.loads((tmp_path / "quarantine.json").read_text())
    assert kept["lastGood"] == []
    assert ["VirtualService", "default", "reviews"] in kept["inForce"]


def test_a_resource_written_between_two_runs_does_not_take_over_a_host(
    mesh: MeshFolder, tmp_path: Path
) -> None:
    assert Process(tmp_path).serves == "v3"
    slip = virtual_service("a-slip", ["reviews"], destination("reviews", "v1"))
    mesh.write("a-slip", slip)
    assert Process(tmp_path).serves == "v3"
    mesh.remove("route")
    assert Process(tmp_path).serves == "v1"


def test_only_the_owner_can_read_the_file(quarantined: Path) -> None:
    assert stat.S_IMODE(quarantined.stat().st_mode) == 0o600


def test_a_resource_that_has_recovered_is_forgotten(
    mesh: MeshFolder, quarantined: Path, tmp_path: Path
) -> None:
    process = Process(tmp_path)
    mesh.write("route", virtual_service("reviews", ["reviews"], destination("reviews", "v1")))
    process.look()
    assert json.loads(quarantined.read_text())["lastGood"] == []
    mesh.write("route", FAULTY)
    process.look()
    assert (process.serves, Process(tmp_path).serves) == ("v1", "v1")


def test_a_resource_deleted_between_two_runs_is_forgotten(
    mesh: MeshFolder, quarantined: Path, tmp_path: Path
) -> None:
    mesh.write_text("route", "# nothing")
    assert Process(tmp_path).serves is None
    assert json.loads(quarantined.read_text())["lastGood"] == []


def test_a_resource_whose_file_is_deleted_between_two_runs_is_forgotten(
    mesh: MeshFolder, quarantined: Path, tmp_path: Path
) -> None:
    mesh.remove("route")
    assert Process(tmp_path).serves is None
    assert json.loads(quarantined.read_text())["lastGood"] == []


def test_a_resource_fixed_between_two_runs_is_applied(
    mesh: MeshFolder, quarantined: Path, tmp_path: Path
) -> None:
    mesh.write("route", virtual_service("reviews", ["reviews"], destination("reviews", "v1")))
    assert Process(tmp_path).serves == "v1"


def test_an_invalid_yaml_file_adds_no_resource_that_was_never_in_force(
    mesh: MeshFolder, tmp_path: Path
) -> None:
    """Otherwise it would block another file with the same resource until the next process starts."""
    mesh.write("route", FAULTY)
    process = Process(tmp_path)
    mesh.write_text("route", "{")
    mesh.write("moved", GOOD)
    process.look()
    assert process.serves == Process(tmp_path).serves == "v3"


def test_an_invalid_yaml_file_keeps_its_last_good_resources(
    mesh: MeshFolder, quarantined: Path, tmp_path: Path
) -> None:
    mesh.write_text("route", "kind: [")
    process = Process(tmp_path)
    assert process.serves == "v3"
    assert "not found in route.yaml" in process.reasons()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"lastGood": 7, "inForce": {}, "countingFiles": [1, ["a"]]}',
    ],
)
def test_a_damaged_file_is_logged_and_ignored(
    quarantined: Path, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    quarantined.write_bytes(content)
    process = Process(tmp_path)
    assert process.serves is None
    assert "colour" in process.reasons()
    if b"lastGood" not in content:
        assert f"{quarantined} cannot be used, the last good versions in it are lost" in caplog.text


def test_an_invalid_entry_is_in_the_status_and_stays_for_other_releases(
    mesh: MeshFolder, quarantined: Path, tmp_path: Path
) -> None:
    document = json.loads(quarantined.read_text())
    document["lastGood"][0]["resource"]["spec"]["ofTomorrow"] = {}
    quarantined.write_text(json.dumps(document))
    process = Process(tmp_path)
    assert process.serves is None
    assert "the stored last good version cannot be used: spec.ofTomorrow: unknown field" in process.reasons()
    process.look()
    assert Process(tmp_path).reasons() == process.reasons()
    assert "ofTomorrow" in quarantined.read_text()
    mesh.write("route", GOOD)
    process.look()
    assert "ofTomorrow" not in quarantined.read_text()


def test_an_entry_by_hand_is_checked_as_any_resource(quarantined: Path, tmp_path: Path) -> None:
    document = json.loads(quarantined.read_text())
    document["lastGood"][0]["resource"]["spec"]["http"][0]["route"][0]["destination"]["subset"] = "v1"
    quarantined.write_text(json.dumps(document))
    assert Process(tmp_path).serves == "v1"


def test_the_mesh_works_when_the_file_cannot_be_written(
    mesh: MeshFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(tmp_path)
    process.full = True
    mesh.write("route", FAULTY)
    caplog.set_level(logging.WARNING)
    process.look()
    process.look()
    assert process.serves == "v3"
    assert caplog.text.count("a restart would lose last good versions") == 1


def test_a_recovery_that_cannot_be_written_does_not_restore_the_old_version(
    mesh: MeshFolder, quarantined: Path, tmp_path: Path
) -> None:
    process = Process(tmp_path)
    process.full = True
    mesh.write("route", virtual_service("reviews", ["reviews"], destination("reviews", "v1")))
    process.look()
    mesh.write("route", FAULTY)
    process.look()
    assert process.serves == "v1"


def test_it_never_grows_beyond_its_limit(mesh: MeshFolder, tmp_path: Path) -> None:
    store = Store(KINDS)
    file = LastGoodFile(tmp_path / "quarantine.json", store, most_bytes=10)
    source = FolderSource(tmp_path / "mesh", store, lambda: None, had=file.load())
    source.load()
    store.build()
    mesh.write("route", FAULTY)
    source.load()
    file.note_build(*store.build())
    assert not (tmp_path / "quarantine.json").exists()
