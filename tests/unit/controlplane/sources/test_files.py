from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from controlplane.errors import SettingsError
from controlplane.kinds.registry import KINDS
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Fault, ResourceStatus, State
from controlplane.model.store import Store
from controlplane.sources.files import FolderSource
from controlplane.sources.folder import Contents, read_file
from controlplane.sources.foreign_resources import ForeignResources
from tests.support.documents import (
    Document,
    destination,
    destination_rule,
    document,
    service,
    virtual_service,
    workload,
)

REVIEWS_ROUTE = ResourceKey(kind="VirtualService", namespace="default", name="reviews")


def write(path: Path, *resources: Document) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump_all(resources, sort_keys=False))


def route_to(subset: str) -> Document:
    return virtual_service("reviews", ["reviews"], destination("reviews", subset))


class Mesh:
    """A folder with services.yaml and route.yaml, its source, and the store that it updates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(KINDS)
        self.changed = asyncio.Event()
        self.source = FolderSource(folder, self.store, self.changed.set)
        write(
            folder / "services.yaml",
            service("reviews"),
            workload("reviews-1", "10.0.0.1", {"app": "reviews"}),
            destination_rule("reviews", "reviews", "v1", "v2"),
        )
        write(folder / "route.yaml", route_to("v1"))

    def subset_in_force(self) -> str | None:
        snapshot, _ = self.store.build()
        if not snapshot.virtual_services:
            return None
        return snapshot.virtual_services[0].spec.http[0].route[0].destination.subset

    def statuses(self) -> list[ResourceStatus]:
        self.store.build()
        return self.store.statuses()

    def status(self, key: ResourceKey = REVIEWS_ROUTE) -> ResourceStatus:
        (status,) = [each for each in self.store.statuses() if each.key == key]
        return status

    def file_reasons(self, name: str) -> tuple[str, ...]:
        return self.status(ResourceKey(kind="File", namespace="", name=name)).reasons

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.changed.wait()
                self.changed.clear()

    async def until_subset(self, subset: str | None) -> None:
        await self.until(lambda: self.subset_in_force() == subset)

    async def until_quarantined(self) -> None:
        await self.until(lambda: any(each.key == REVIEWS_ROUTE and each.reasons for each in self.statuses()))

    async def until_known(self, key: ResourceKey) -> None:
        await self.until(lambda: any(each.key == key for each in self.statuses()))

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        self.source.load()
        self.store.build()
        self.changed.clear()
        watching = asyncio.create_task(self.source.watch(), name="watch")
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        assert watching.cancelled()


@pytest.fixture(autouse=True)
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests change files before the watch has begun; only a scan finds these changes."""
    monkeypatch.setattr("controlplane.sources.files._LOOK_INTERVAL_S", 0.05)


@pytest.fixture
async def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


class TestLoading:
    async def test_every_yaml_file_of_the_folder_is_read(self, mesh: Mesh) -> None:
        write(mesh.folder / "deep" / "er" / "ratings.yml", service("ratings"))
        mesh.source.load()
        assert mesh.changed.is_set()
        snapshot, _ = mesh.store.build()
        assert {each.name for each in snapshot.services.values()} == {"reviews", "ratings"}
        assert str(mesh.status().origin) == "route.yaml:1"

    def test_a_missing_folder_is_the_operators_fault(self, tmp_path: Path) -> None:
        source = FolderSource(tmp_path / "nowhere", Store(KINDS), lambda: None)
        with pytest.raises(SettingsError, match="nowhere does not exist"):
            source.load()

    def test_a_file_instead_of_a_folder_is_rejected(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SettingsError, match="is not a folder"):
            FolderSource(tmp_path / "file", Store(KINDS), lambda: None).load()

    @pytest.mark.parametrize("name", [".hidden.yaml", "a.yaml~", ".a.yaml.swp", "#a.yaml#", "4913", "a.txt"])
    async def test_editors_drafts_and_other_files_are_left_out(self, mesh: Mesh, name: str) -> None:
        (mesh.folder / name).write_text("a: [")
        mesh.source.load()
        mesh.store.build()
        assert {each.state for each in mesh.store.statuses()} == {State.APPLIED}

    async def test_a_loop_of_folders_ends(self, mesh: Mesh) -> None:
        (mesh.folder / "again").symlink_to(mesh.folder)
        mesh.source.load()
        assert mesh.subset_in_force() == "v1"


# Invalid contents of route.yaml, and the reason in the status.
FAULTS = {
    "syntax error": ("spec: [", "line 2, column 1"),
    "unknown kind": (
        yaml.safe_dump(route_to("v2") | {"kind": "VirtualServices"}),
        "unknown kind 'VirtualServices'; did you mean `VirtualService`?",
    ),
    "unknown field": (
        yaml.safe_dump(virtual_service("reviews", ["reviews"]) | {"spec": {"hosts": ["a"], "htp": []}}),
        "spec.htp: unknown field; did you mean `http`?",
    ),
    "weights": (
        yaml.safe_dump(
            virtual_service(
                "reviews", ["reviews"], destination("reviews", "v1", 0), destination("reviews", "v2", 0)
            )
        ),
        "spec.http[0].route: the sum of the weights is 0",
    ),
    "regex": (
        yaml.safe_dump(
            virtual_service("reviews", ["reviews"])
            | {"spec": {"hosts": ["reviews"], "http": [{"match": [{"uri": {"regex": "("}}]}]}}
        ),
        "spec.http[0].match[0].uri.regex: '(' is not an RE2 regular expression",
    ),
    "twice": ("a: 1\na: 2\n", "line 2, column 1: duplicate key 'a'"),
    "not UTF-8": ("\udcff", "is not UTF-8: byte 0 is 0xff"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_faulty_file_is_reported_and_its_last_good_configuration_stays(
    mesh: Mesh, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    text, words = FAULTS[name]
    async with mesh.watched():
        before, _ = mesh.store.build()
        (mesh.folder / "route.yaml").write_bytes(text.encode(errors="surrogateescape"))
        await mesh.until_quarantined()
        snapshot, _ = mesh.store.build()
        assert snapshot is before
        status = mesh.status()
        assert (status.state, status.in_force) == (State.QUARANTINED, True)
        assert status.origin.file == "route.yaml"
        assert words in "; ".join(status.reasons)
        told = [each for each in caplog.messages if "VirtualService default/reviews (route.yaml" in each]
        assert any(words in each for each in told)
        # The correction is applied.
        write(mesh.folder / "route.yaml", route_to("v2"))
        await mesh.until_subset("v2")
        assert mesh.status().state is State.APPLIED


async def test_a_second_virtual_service_for_a_host_names_the_first_file(mesh: Mesh) -> None:
    second = virtual_service("another", ["reviews"], destination("reviews", "v2"))
    key = ResourceKey(kind="VirtualService", namespace="default", name="another")
    async with mesh.watched():
        write(mesh.folder / "another.yaml", second)
        await mesh.until_known(key)
        assert mesh.subset_in_force() == "v1"
        assert mesh.status(key).reasons == (
            "spec.hosts[0]: the host reviews.default.svc.cluster.local is already routed by "
            "VirtualService default/reviews (route.yaml:1)",
        )


async def test_a_broken_file_at_the_start_does_not_affect_the_others(mesh: Mesh) -> None:
    (mesh.folder / "a.yaml").write_text("{")
    mesh.source.load()
    assert mesh.subset_in_force() == "v1"
    assert mesh.file_reasons("a.yaml")[0].startswith("line ")


async def test_documents_that_are_not_resources_are_errors_of_the_file(mesh: Mesh) -> None:
    (mesh.folder / "a.yaml").write_text("just text\n---\nkind: Service\nmetadata: {}\n")
    mesh.source.load()
    mesh.store.build()
    assert mesh.file_reasons("a.yaml") == (
        "line 1: is not a resource: expected a mapping with apiVersion, kind, metadata",
        "line 3: metadata.name: is required, and must be a string",
    )


async def test_a_resource_twice_in_a_file_is_the_files_fault(mesh: Mesh) -> None:
    write(mesh.folder / "route.yaml", route_to("v1"), route_to("v2"))
    mesh.source.load()
    assert mesh.subset_in_force() == "v1"
    (reason,) = mesh.file_reasons("route.yaml")
    assert reason.endswith("duplicate resource VirtualService default/reviews, already defined at line 1")


async def test_a_special_file_is_reported_without_blocking(mesh: Mesh) -> None:
    os.mkfifo(mesh.folder / "pipe.yaml")
    (mesh.folder / "loop.yaml").symlink_to("loop.yaml")
    mesh.source.load()
    mesh.store.build()
    assert mesh.file_reasons("pipe.yaml") == ("is not a regular file",)
    assert mesh.file_reasons("loop.yaml")[0].startswith("cannot be read: ")


async def test_a_file_that_is_too_large_is_rejected(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.sources.folder._MOST_BYTES", 100)
    mesh.source.load()
    mesh.store.build()
    assert mesh.file_reasons("services.yaml") == ("is larger than 100 bytes",)


class TestWatching:
    async def test_an_edit_is_followed(self, mesh: Mesh) -> None:
        async with mesh.watched():
            write(mesh.folder / "route.yaml", route_to("v2"))
            await mesh.until_subset("v2")

    async def test_only_the_files_that_changed_are_read(
        self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[str] = []

        def note_and_read(folder: Path, name: str) -> Contents | None:
            read.append(name)
            return read_file(folder, name)

        async with mesh.watched():
            monkeypatch.setattr("controlplane.sources.files.read_file", note_and_read)
            write(mesh.folder / "route.yaml", route_to("v2"))
            await mesh.until_subset("v2")
            assert mesh.status().generation == 2
            assert set(read) == {"route.yaml"}

    async def test_a_deleted_file_takes_its_resources_along(self, mesh: Mesh) -> None:
        async with mesh.watched():
            (mesh.folder / "route.yaml").unlink()
            await mesh.until_subset(None)
            assert REVIEWS_ROUTE not in {each.key for each in mesh.store.statuses()}

    async def test_a_resource_that_left_its_file_is_deleted(self, mesh: Mesh) -> None:
        async with mesh.watched():
            write(mesh.folder / "route.yaml", service("ratings"))
            await mesh.until_subset(None)

    async def test_a_resource_that_moves_to_another_file_is_never_absent(self, mesh: Mesh) -> None:
        async with mesh.watched():
            before, _ = mesh.store.build()
            (mesh.folder / "route.yaml").rename(mesh.folder / "moved.yaml")
            await mesh.until(lambda: any(each.origin.file == "moved.yaml" for each in mesh.statuses()))
            assert mesh.store.build()[0].virtual_services is before.virtual_services

    async def test_files_replaced_by_a_rename_as_editors_do_are_followed(self, mesh: Mesh) -> None:
        async with mesh.watched():
            write(mesh.folder / ".route.yaml.tmp", route_to("v2"))
            os.replace(mesh.folder / ".route.yaml.tmp", mesh.folder / "route.yaml")
            await mesh.until_subset("v2")

    async def test_a_new_folder_is_followed(self, mesh: Mesh) -> None:
        async with mesh.watched():
            (mesh.folder / "route.yaml").unlink()
            await mesh.until_subset(None)
            write(mesh.folder / "new" / "route.yaml", route_to("v2"))
            await mesh.until_subset("v2")

    async def test_a_change_between_loading_and_watching_is_not_missed(self, mesh: Mesh) -> None:
        mesh.source.load()
        write(mesh.folder / "route.yaml", route_to("v2"))
        watching = asyncio.create_task(mesh.source.watch(), name="watch")
        await mesh.until_subset("v2")
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    async def test_a_change_is_notified_without_waiting_for_the_next_look(
        self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("controlplane.sources.files._LOOK_INTERVAL_S", 600)
        async with mesh.watched(), asyncio.timeout(20):
            while not mesh.changed.is_set():  # the watch has not begun yet
                write(mesh.folder / "route.yaml", route_to("v2"))
                await asyncio.sleep(0.02)
            await mesh.until_subset("v2")

    async def test_a_mounted_config_map_is_followed_when_its_data_folder_is_swapped(
        self, tmp_path: Path
    ) -> None:
        """Like the kubelet: route.yaml -> ..data/route.yaml, ..data -> ..1; a rename replaces ..data."""
        folder = tmp_path / "mount"
        mesh = Mesh(folder)
        (folder / "route.yaml").unlink()
        write(folder / "..1" / "route.yaml", route_to("v1"))
        (folder / "..data").symlink_to("..1")
        (folder / "route.yaml").symlink_to("..data/route.yaml")
        async with mesh.watched():
            assert mesh.subset_in_force() == "v1"
            write(folder / "..2" / "route.yaml", route_to("v2"))
            (folder / "..data_tmp").symlink_to("..2")
            os.replace(folder / "..data_tmp", folder / "..data")
            await mesh.until_subset("v2")

    async def test_a_folder_that_vanishes_takes_nothing_out_of_force(self, tmp_path: Path) -> None:
        folder = tmp_path / "mount"
        mesh = Mesh(folder)
        async with mesh.watched():
            folder.rename(tmp_path / "elsewhere")
            key = ResourceKey(kind="File", namespace="", name=".")
            await mesh.until_known(key)
            assert mesh.subset_in_force() == "v1"
            (tmp_path / "elsewhere").rename(folder)
            write(folder / "route.yaml", route_to("v2"))
            await mesh.until_subset("v2")

    async def test_without_notifications_the_folder_is_looked_at_all_the_same(
        self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def exhausted(*_: object, **__: object) -> AsyncIterator[set[tuple[int, str]]]:
            raise OSError("no space left on device")
            yield set()

        monkeypatch.setattr("controlplane.sources.files.awatch", exhausted)
        with caplog.at_level(logging.WARNING):
            async with mesh.watched():
                write(mesh.folder / "route.yaml", route_to("v2"))
                await mesh.until_subset("v2")
        assert "(no space left on device): scanning it every second" in caplog.text


def test_resources_of_unsupported_kinds_are_reported_as_they_come_and_go(tmp_path: Path) -> None:
    store, found = Store(KINDS), ForeignResources(CollectorRegistry())
    source = FolderSource(tmp_path, store, lambda: None, on_unsupported=found.update)

    def listed() -> dict[str, tuple[str, ...]]:
        source.load()
        return {each.kind: each.resources for each in found.listing() if each.count}

    deny_all = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "deny-all", "namespace": "bookinfo"},
        "spec": {},
    }
    write(tmp_path / "policies.yaml", deny_all, document("EnvoyFilter", "a", {}))
    assert listed() == {"AuthorizationPolicy": ("bookinfo/deny-all",), "EnvoyFilter": ("default/a",)}
    store.build()
    [policy] = [each for each in store.statuses() if each.key.kind == "AuthorizationPolicy"]
    assert policy.fault is Fault.UNSUPPORTED
    assert "no request is denied" in policy.reasons[0]
    (tmp_path / "policies.yaml").write_text("a: [")  # half written
    assert listed().keys() == {"AuthorizationPolicy", "EnvoyFilter"}
    write(tmp_path / "policies.yaml", deny_all)
    assert listed() == {"AuthorizationPolicy": ("bookinfo/deny-all",)}
    (tmp_path / "policies.yaml").unlink()
    assert listed() == {}
