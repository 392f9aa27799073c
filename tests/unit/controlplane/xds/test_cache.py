from __future__ import annotations

import gc
import weakref
from typing import cast

from google.protobuf.message import Message

from controlplane.xds.cache import ResourceCache
from controlplane.xds.resource import Resource, in_batches, response_version
from protos.type_urls import CLUSTER, LISTENER
from tests.support.xds_world import cluster, listener


def test_one_message_is_serialized_once() -> None:
    cache, message = ResourceCache(), cluster("a")
    assert cache.resource(CLUSTER, "a", message) is cache.resource(CLUSTER, "a", message)


def test_equal_content_is_shared() -> None:
    cache = ResourceCache()
    resource = cache.resource(LISTENER, "a", listener("a"))
    assert cache.resource(LISTENER, "a", listener("a")) is resource


class Counted:
    """A message that counts its serializations."""

    def __init__(self, message: Message) -> None:
        self.times = 0
        self._message = message

    def SerializeToString(self, *, deterministic: bool) -> bytes:
        self.times += 1
        return self._message.SerializeToString(deterministic=deterministic)


def test_a_rebuilt_but_equal_resource_is_serialized_once_for_all_proxies() -> None:
    cache = ResourceCache()
    resource = cache.resource(LISTENER, "a", listener("a"))
    again = Counted(listener("a"))
    for _ in range(3):
        assert cache.resource(LISTENER, "a", cast("Message", again)) is resource
    assert again.times == 1


def test_equal_messages_are_forgotten_with_their_snapshot() -> None:
    cache = ResourceCache()
    resource = cache.resource(LISTENER, "a", listener("a"))
    again = Counted(listener("a"))
    cache.resource(LISTENER, "a", cast("Message", again))
    alive = weakref.ref(again)
    cache.forget_twins()
    del again
    gc.collect()
    assert alive() is None
    assert resource.name == "a"


def test_other_content_has_another_version() -> None:
    cache = ResourceCache()
    old, new = cache.resource(LISTENER, "a", listener("a")), cache.resource(LISTENER, "a", listener("a", 1))
    assert old.version != new.version
    assert new.packed.type_url == LISTENER
    assert new.packed.value == listener("a", 1).SerializeToString()


def test_an_unused_resource_is_not_kept() -> None:
    cache = ResourceCache()
    kept = cache.resource(LISTENER, "a", listener("a"))
    cache.resource(LISTENER, "b", listener("b"))
    gc.collect()
    assert len(cache) == 1
    assert kept.name == "a"


def test_clusters_say_which_endpoints_they_wait_for() -> None:
    cache = ResourceCache()
    named = cluster("b")
    named.eds_cluster_config.service_name = "other"
    assert cache.resource(CLUSTER, "a", cluster("a")).warms_with == "a"
    assert cache.resource(CLUSTER, "b", named).warms_with == "other"
    assert cache.resource(CLUSTER, "c", cluster("c", eds=False)).warms_with == ""


def resources(*names: str) -> list[Resource]:
    cache = ResourceCache()
    return [cache.resource(CLUSTER, name, cluster(name)) for name in names]


def test_a_response_version_does_not_depend_on_order_and_does_on_removals() -> None:
    assert response_version(resources("a", "b")) == response_version(resources("b", "a"))
    assert response_version(resources("a")) != response_version(resources("a", "b"))
    assert response_version([], ["a"]) != response_version([], ["b"])


def test_batches_respect_the_limit_and_there_is_always_one() -> None:
    assert list(in_batches([], 10)) == [[]]
    three = resources("a", "b", "c")
    size_bytes = len(three[0].packed.value)
    assert [len(batch) for batch in in_batches(three, 2 * size_bytes)] == [2, 1]
    assert [len(batch) for batch in in_batches(three, 1)] == [1, 1, 1]
