from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import pytest

from protos import type_urls
from sidecar.config.bootstrap import Bootstrap
from sidecar.config.cluster import ClusterConfig
from sidecar.config.snapshot import EMPTY_SNAPSHOT, Snapshot
from sidecar.errors import ConfigError
from sidecar.xds import store
from sidecar.xds.persistence import write_last_good
from sidecar.xds.state import XdsState
from sidecar.xds.store import RawResource
from sidecar.xds.updates import Updates
from sidecar.xds.wire import XdsResponse
from tests.support.ads_server import name_of, packed
from tests.support.envoy_config import dns_cluster, listener, static_cluster, tcp_proxy

CLUSTER, LISTENER = type_urls.CLUSTER, type_urls.LISTENER
NAME_TABLE, NAME_TABLE_NAME = type_urls.NAME_TABLE, type_urls.NAME_TABLE_NAME


class DataPath:
    def __init__(self) -> None:
        self.snapshot = EMPTY_SNAPSHOT
        self.refuse_port = 0
        self.refuse_all = ""
        self.fault: Exception | None = None

    async def __call__(self, snapshot: Snapshot) -> Mapping[str, ConfigError]:
        if self.refuse_all:
            raise ConfigError("", self.refuse_all)
        if self.fault is not None:
            raise self.fault
        self.snapshot = snapshot
        return {
            name: ConfigError("address", "in use")
            for name, config in snapshot.listeners.items()
            if self.refuse_port and config.address.port == self.refuse_port
        }


@pytest.fixture
def data_path() -> DataPath:
    return DataPath()


@pytest.fixture
def state() -> XdsState:
    return XdsState()


@pytest.fixture
def updates(data_path: DataPath, state: XdsState) -> Updates:
    return Updates(Bootstrap(), data_path, state, clock=lambda: 0.0, wall_clock=lambda: 0.0)


def response(type_url: str, *documents: dict[str, Any], **fields: Any) -> XdsResponse:
    resources = tuple(
        RawResource(
            name=name_of(document),
            version="1",
            type_url=type_url,
            body=packed(type_url, document).value,
        )
        for document in documents
    )
    return XdsResponse(type_url=type_url, version="1", nonce="n", resources=resources, **fields)


async def test_the_version_before_replaces_a_refused_listener(updates: Updates, data_path: DataPath) -> None:
    await updates.apply(response(LISTENER, listener("l", tcp_proxy(), 80)))
    before = data_path.snapshot.listeners["l"]
    data_path.refuse_port = 81
    outcome = await updates.apply(response(LISTENER, listener("l", tcp_proxy(), 81)))

    assert outcome.error == "l: address: in use"
    assert data_path.snapshot.listeners["l"] is before
    assert updates.store.versions(LISTENER) == {"l": "1"}


async def test_a_new_listener_that_is_refused_is_left_out(updates: Updates, data_path: DataPath) -> None:
    data_path.refuse_port = 81
    both = response(LISTENER, listener("good", tcp_proxy(), 80), listener("bad", tcp_proxy(), 81))
    assert (await updates.apply(both)).error == "bad: address: in use"
    assert list(data_path.snapshot.listeners) == ["good"]
    data_path.refuse_port = 0
    assert (await updates.apply(response(LISTENER, listener("bad", tcp_proxy(), 81)))).error == ""
    assert set(data_path.snapshot.listeners) == {"good", "bad"}


async def test_two_listeners_cannot_have_one_address(updates: Updates, data_path: DataPath) -> None:
    both = response(LISTENER, listener("a", tcp_proxy(), 80), listener("b", tcp_proxy(), 80))
    outcome = await updates.apply(both)
    assert outcome.error == "b: address: 127.0.0.1:80 is already the address of the listener 'a'"
    assert list(data_path.snapshot.listeners) == ["a"]


async def test_a_refused_snapshot_is_tried_again(updates: Updates, data_path: DataPath) -> None:
    data_path.refuse_all = "out of memory"
    outcome = await updates.apply(response(LISTENER, listener("l", tcp_proxy())))
    assert outcome.error == "out of memory"
    assert data_path.snapshot is EMPTY_SNAPSHOT
    data_path.refuse_all = ""
    await updates.apply(response(CLUSTER, static_cluster("b")))
    assert (list(data_path.snapshot.clusters), list(data_path.snapshot.listeners)) == (["b"], ["l"])


async def test_an_internal_error_of_the_data_path_is_a_nack_and_the_snapshot_before_stays(
    updates: Updates, data_path: DataPath, caplog: pytest.LogCaptureFixture
) -> None:
    await updates.apply(response(CLUSTER, static_cluster("c", 80)))
    before = data_path.snapshot
    data_path.fault = KeyError("c")
    outcome = await updates.apply(response(CLUSTER, static_cluster("c", 81)))
    assert "internal error: KeyError: 'c'" in outcome.error + outcome.listener_error
    assert "Traceback" in caplog.text
    assert data_path.snapshot is before

    data_path.fault = None
    assert await updates.publish() == []
    assert data_path.snapshot is not before


async def test_an_internal_error_before_the_first_snapshot_is_raised(
    updates: Updates, data_path: DataPath
) -> None:
    [cluster] = response(CLUSTER, static_cluster("c", 80)).resources
    updates.store.add(CLUSTER, cluster)
    data_path.fault = KeyError("c")
    with pytest.raises(KeyError):
        await updates.publish()


async def test_an_internal_error_of_a_decoder_refuses_only_its_resource(
    updates: Updates, data_path: DataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = store.decode_resource

    def faulty(type_url: str, body: bytes, secrets: Set[str]) -> Any:
        resource = decode(type_url, body, secrets)
        if resource.name == "bad":
            raise IndexError("out of range")
        return resource

    monkeypatch.setattr(store, "decode_resource", faulty)
    outcome = await updates.apply(response(CLUSTER, static_cluster("good", 80), static_cluster("bad", 80)))
    assert outcome.error == "bad: internal error: IndexError: out of range"
    assert set(data_path.snapshot.clusters) == {"good"}


async def test_counters_count_the_events(updates: Updates, state: XdsState) -> None:
    await updates.apply(response(CLUSTER, static_cluster("a")))
    await updates.apply(response(CLUSTER, {**static_cluster("b"), "lb_policy": "MAGLEV"}))
    stats = state.stats()
    assert stats["cluster_manager.cds.update_success"] == 1
    assert stats["cluster_manager.cds.update_rejected"] == 1
    assert state.last_nack.startswith("cds: b: lb_policy: MAGLEV")
    await updates.apply(response(CLUSTER, static_cluster("b")))
    assert state.last_nack == ""


async def test_a_response_that_adds_and_removes_a_name_is_refused(updates: Updates) -> None:
    outcome = await updates.apply(response(CLUSTER, static_cluster("a"), removed=("a",)))
    assert outcome.error == "a: appears 2 times in the response"
    assert updates.store.versions(CLUSTER) == {}


async def test_the_text_of_a_nack_is_bounded(updates: Updates) -> None:
    bad = [{**static_cluster(f"c{number}"), "lb_policy": "MAGLEV"} for number in range(500)]
    assert len((await updates.apply(response(CLUSTER, *bad))).error) <= 4096


def test_saved_resources_that_are_invalid_now_are_ignored(
    updates: Updates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = packed(CLUSTER, static_cluster("good")).value
    bad = packed(CLUSTER, {**static_cluster("bad"), "lb_policy": "MAGLEV"}).value
    saved = [
        RawResource(name="good", version="1", type_url=CLUSTER, body=good),
        RawResource(name="bad", version="1", type_url=CLUSTER, body=bad),
        RawResource(name="odd", version="1", type_url="type.googleapis.com/other", body=b""),
    ]
    write_last_good(tmp_path, "", saved)
    restored = updates.restore(tmp_path)

    assert restored is not None
    assert list(restored.clusters) == ["good"]
    assert "ignored the saved resource bad: lb_policy: MAGLEV" in caplog.text
    assert "ignored the saved resource odd" in caplog.text
    assert updates.store.versions(CLUSTER) == {"good": ""}, "asked for anew"


async def test_the_name_table_is_saved_restored_and_replaced(tmp_path: Path, data_path: DataPath) -> None:
    def fresh() -> Updates:
        return Updates(Bootstrap(), data_path, XdsState(), clock=lambda: 0.0, wall_clock=lambda: 0.0)

    def ips(*found: str) -> dict[str, Any]:
        return {"table": {"a.example.com": {"ips": list(found)}}}

    first = fresh()
    await first.apply(response(NAME_TABLE, ips("10.0.0.1")))
    write_last_good(tmp_path, "", first.saved())
    second = fresh()
    restored = second.restore(tmp_path)
    assert restored is not None
    assert restored.names[NAME_TABLE_NAME].hosts["a.example.com"].v4 == ("10.0.0.1",)
    refused = await second.apply(response(NAME_TABLE, ips("nonsense")))
    assert "table[a.example.com].ips[0]" in refused.error
    assert data_path.snapshot.names[NAME_TABLE_NAME].hosts["a.example.com"].v4 == ("10.0.0.1",)
    await second.apply(response(NAME_TABLE, removed=(NAME_TABLE_NAME,)))
    assert not data_path.snapshot.names


async def test_the_name_table_of_istio_has_no_name(updates: Updates, data_path: DataPath) -> None:
    body = packed(NAME_TABLE, {"table": {"a.example.com": {"ips": ["10.0.0.1"]}}}).value
    for name in ("", "default/some-name"):
        resource = RawResource(name=name, version="1", type_url=NAME_TABLE, body=body)
        sent = XdsResponse(type_url=NAME_TABLE, version="1", nonce="n", resources=(resource,), complete=True)
        assert not (await updates.apply(sent)).error
    assert data_path.snapshot.names.keys() == {NAME_TABLE_NAME}


async def test_clusters_are_published_when_their_names_are_resolved(
    data_path: DataPath, state: XdsState
) -> None:
    unresolved = {"d"}
    asked: list[list[str]] = []

    async def resolve_first(clusters: Mapping[str, ClusterConfig]) -> set[str]:
        asked.append(sorted(clusters))
        return unresolved & clusters.keys()

    updates = Updates(
        Bootstrap(),
        data_path,
        state,
        clock=lambda: 0.0,
        wall_clock=lambda: 0.0,
        resolve_first=resolve_first,
    )
    await updates.apply(response(CLUSTER, dns_cluster("d"), static_cluster("s")))
    assert data_path.snapshot.clusters.keys() == {"s"}
    assert asked[0] == ["d", "s"]
    unresolved.clear()
    await updates.publish()
    assert data_path.snapshot.clusters.keys() == {"s", "d"}
    assert asked[-1] == [], "what serves is not asked for"


async def test_names_of_restored_clusters_are_waited_for_after_the_first_snapshot(
    data_path: DataPath, state: XdsState, tmp_path: Path
) -> None:
    body = packed(CLUSTER, dns_cluster("d")).value
    write_last_good(tmp_path, "", [RawResource(name="d", version="1", type_url=CLUSTER, body=body)])

    async def resolve_first(clusters: Mapping[str, ClusterConfig]) -> Set[str]:
        return clusters.keys()

    updates = Updates(
        Bootstrap(),
        data_path,
        state,
        clock=lambda: 0.0,
        wall_clock=lambda: 0.0,
        resolve_first=resolve_first,
    )
    restored = updates.restore(tmp_path)
    assert restored is not None
    assert restored.clusters.keys() == {"d"}
    await updates.publish()
    assert not data_path.snapshot.clusters
