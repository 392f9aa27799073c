"""A snapshot that crosses to another process: pickled and unpickled, but by the same objects where it did not
change."""

from __future__ import annotations

import pickle
from dataclasses import replace

from sidecar.config.snapshot import Snapshot
from sidecar.process.messages import Apply, LookUp, Resources
from sidecar.process.pickling import dumps
from sidecar.process.snapshot_changes import SnapshotReceiver, SnapshotSender
from tests.support.clusters import assignment, at_port, dns_cluster, snapshot, static_cluster


class Crossing:
    """Both ends."""

    def __init__(self) -> None:
        self.sender = SnapshotSender()
        self.receiver = SnapshotReceiver()
        self.resources: list[str] = []

    def apply(self, sent: Snapshot, *, refuse: bool = False) -> Snapshot:
        received = Snapshot()
        for message in self.sender.apply(sent):
            crossed = pickle.loads(dumps(message))
            if isinstance(crossed, Apply):
                received = self.receiver.snapshot(crossed)
                if not refuse:
                    self.receiver.applied(crossed, received)
                    self.sender.applied(sent)
            else:
                self._add(crossed)
        return received

    def look_up(self, sent: Snapshot) -> dict[str, object]:
        for message in self.sender.look_up(sent.clusters):
            crossed = pickle.loads(dumps(message))
            if isinstance(crossed, LookUp):
                return dict(self.receiver.clusters(crossed))
            self._add(crossed)
        raise AssertionError("no question")

    def _add(self, message: Resources) -> None:
        self.resources += message.resources
        self.receiver.add(message)


def test_unchanged_resources_stay_the_same_objects_and_do_not_cross_again() -> None:
    crossing, kept, old = Crossing(), static_cluster(name="kept"), static_cluster(name="changed")
    before = crossing.apply(snapshot(old, kept))
    new = replace(old, connect_timeout_s=9.0)
    after = crossing.apply(snapshot(new, kept))
    assert after.clusters["kept"] is before.clusters["kept"]
    assert after.clusters["changed"] == new
    assert crossing.resources == ["changed", "kept", "changed"]


def test_added_removed_and_moved_names_arrive_in_their_order() -> None:
    crossing = Crossing()
    a, b, c = (static_cluster(name=name) for name in "abc")
    assert list(crossing.apply(snapshot(a, b)).clusters) == ["a", "b"]
    assert list(crossing.apply(snapshot(c, b, a)).clusters) == ["c", "b", "a"]
    assert list(crossing.apply(snapshot(b)).clusters) == ["b"]


def test_every_kind_crosses() -> None:
    crossing = Crossing()
    sent = snapshot(static_cluster(), up=assignment("up", at_port(1)))
    received = crossing.apply(sent)
    assert received == sent
    assert crossing.apply(snapshot()) == snapshot()


def test_many_resources_cross_in_several_messages() -> None:
    many = snapshot(*(static_cluster(name=f"c{number}") for number in range(100)))
    messages = list(SnapshotSender().apply(many))
    assert len(messages) > 2
    assert all(len(message.resources) < 20 for message in messages if isinstance(message, Resources))


def test_a_cluster_that_was_looked_up_is_the_same_object_when_it_serves() -> None:
    """Its discovery, which is already warm, is found by identity."""
    crossing, sent = Crossing(), snapshot(dns_cluster("a.example"))
    asked = crossing.look_up(sent)
    assert crossing.look_up(sent)["up"] is asked["up"]
    assert crossing.apply(sent).clusters["up"] is asked["up"]
    assert crossing.resources == ["up"]


def test_a_cluster_that_warms_does_not_replace_the_one_that_serves() -> None:
    crossing, serving = Crossing(), snapshot(dns_cluster("a.example"))
    old = crossing.apply(serving)
    crossing.look_up(snapshot(dns_cluster("b.example")))
    now = crossing.apply(replace(serving, endpoints={"e": assignment("e")}))
    assert now.clusters["up"] is old.clusters["up"]


def test_a_cluster_that_is_no_longer_looked_up_is_forgotten() -> None:
    crossing, first = Crossing(), snapshot(dns_cluster("a.example"))
    crossing.look_up(first)
    crossing.look_up(snapshot())
    crossing.look_up(first)
    assert crossing.resources == ["up", "up"]


def test_a_refused_snapshot_changes_nothing_and_its_resources_are_kept_for_the_next() -> None:
    crossing, old = Crossing(), static_cluster(name="a")
    before = crossing.apply(snapshot(old))
    new = replace(old, connect_timeout_s=9.0)
    crossing.apply(snapshot(new), refuse=True)
    added = static_cluster(name="b")
    after = crossing.apply(snapshot(old, added))
    assert after.clusters["a"] is before.clusters["a"]
    assert crossing.apply(snapshot(new, added)).clusters == {"a": new, "b": added}


def test_the_snapshot_before_comes_back_as_the_same_objects() -> None:
    crossing, old = Crossing(), snapshot(static_cluster(name="a"))
    before = crossing.apply(old)
    crossing.apply(snapshot(static_cluster(name="b")))
    crossing.sender.went_back()
    assert crossing.receiver.go_back() is before
    third = static_cluster(name="c")
    assert crossing.apply(snapshot(old.clusters["a"], third)).clusters["a"] is before.clusters["a"]
