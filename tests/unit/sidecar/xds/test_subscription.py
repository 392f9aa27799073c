from __future__ import annotations

from collections.abc import Mapping

from protos import type_urls
from sidecar.config.bootstrap import AdsVariant
from sidecar.xds.subscription import DeltaRequest, DeltaSubscription, SotwSubscription, Subscriptions

CLUSTER, ENDPOINT, LISTENER = type_urls.CLUSTER, type_urls.ENDPOINT, type_urls.LISTENER
NAME_TABLE = type_urls.NAME_TABLE


def nothing(type_url: str) -> Mapping[str, str]:
    return {}


def test_sotw_repeats_names_and_the_accepted_version() -> None:
    endpoints = SotwSubscription(ENDPOINT, wildcard=False)
    assert endpoints.open({}) is None, "an empty list would ask for everything"
    assert endpoints.want(frozenset()) is None
    first = endpoints.want({"b", "a"})
    assert first is not None
    assert (first.names, first.version, first.nonce) == (("a", "b"), "", "")

    ack = endpoints.answer("v1", "n1")
    assert (ack.version, ack.nonce, ack.names) == ("v1", "n1", ("a", "b"))
    nack = endpoints.answer("v2", "n2", "bad")
    assert (nack.version, nack.nonce, nack.error) == ("v1", "n2", "bad")
    fewer = endpoints.want({"a"})
    assert fewer is not None
    assert (fewer.names, fewer.version, fewer.nonce) == (("a",), "v1", "n2")
    none = endpoints.want(frozenset())
    assert none is not None
    assert none.names == ()


def test_sotw_keeps_the_version_and_drops_the_nonce_when_a_stream_opens() -> None:
    clusters = SotwSubscription(CLUSTER, wildcard=True)
    clusters.answer("v1", "n1")
    opened = clusters.open({})
    assert opened is not None
    assert (opened.version, opened.nonce) == ("v1", "")


def test_delta_sends_only_changes() -> None:
    endpoints = DeltaSubscription(ENDPOINT, wildcard=False)
    assert endpoints.open({"a": "1"}) is None
    assert endpoints.want({"a", "b"}) == DeltaRequest(type_url=ENDPOINT, subscribe=("a", "b"))
    assert endpoints.want({"a", "b"}) is None
    assert endpoints.want({"b", "c"}) == DeltaRequest(type_url=ENDPOINT, subscribe=("c",), unsubscribe=("a",))
    assert endpoints.answer("v", "n", "bad") == DeltaRequest(type_url=ENDPOINT, nonce="n", error="bad")


def test_delta_sends_the_versions_of_subscribed_resources_on_a_new_stream() -> None:
    endpoints = DeltaSubscription(ENDPOINT, wildcard=False)
    endpoints.want({"a", "b"})
    assert endpoints.open({"a": "1", "gone": "2"}) == DeltaRequest(
        type_url=ENDPOINT, subscribe=("a", "b"), initial_versions={"a": "1"}
    )
    clusters = DeltaSubscription(CLUSTER, wildcard=True)
    assert clusters.want({"a"}) is None, "a wildcard asks for all"
    assert clusters.open({"a": "1"}) == DeltaRequest(
        type_url=CLUSTER, subscribe=("*",), initial_versions={"a": "1"}
    )


def test_listeners_are_requested_after_the_response_about_clusters() -> None:
    all_types = Subscriptions(AdsVariant.DELTA, clusters=True, listeners=True)
    assert [request.type_url for request in all_types.open(nothing)] == [CLUSTER]
    all_types.answer(CLUSTER, "1", "n")
    assert not all_types.synced
    assert [request.type_url for request in all_types.release_listeners(nothing)] == [LISTENER]
    assert all_types.release_listeners(nothing) == []
    all_types.answer(LISTENER, "1", "n")
    assert all_types.synced
    assert [request.type_url for request in all_types.open(nothing)] == [CLUSTER, LISTENER], "a second stream"


def test_names_are_requested_with_the_listeners_that_they_lead_to() -> None:
    all_types = Subscriptions(AdsVariant.DELTA, clusters=True, listeners=True, names=True)
    assert [request.type_url for request in all_types.open(nothing)] == [CLUSTER]
    for type_url in (CLUSTER, LISTENER):
        all_types.answer(type_url, "1", "n")
    requests = all_types.release_listeners(nothing)
    assert requests == [
        DeltaRequest(type_url=LISTENER, subscribe=("*",)),
        DeltaRequest(type_url=NAME_TABLE, subscribe=("*",)),
    ]
    assert not all_types.synced
    all_types.answer(NAME_TABLE, "1", "n")
    assert all_types.synced


def test_nobody_waits_for_ever_for_names_of_a_control_plane_that_has_none() -> None:
    all_types = Subscriptions(AdsVariant.SOTW, clusters=False, listeners=False, names=True)
    assert [request.type_url for request in all_types.open(nothing)] == [NAME_TABLE]
    assert not all_types.synced
    assert all_types.stop_waiting_for_names()
    assert all_types.synced
    assert all_types.expects(NAME_TABLE), "they may still come"
    assert not all_types.stop_waiting_for_names()


def test_a_stream_that_ends_because_of_names_is_opened_without_them() -> None:
    all_types = Subscriptions(AdsVariant.SOTW, clusters=True, listeners=True, names=True)
    all_types.open(nothing)
    assert not all_types.drop_unanswered_names(), "they were not requested yet"
    all_types.release_listeners(nothing)
    assert all_types.drop_unanswered_names()
    assert [request.type_url for request in all_types.open(nothing)] == [CLUSTER, LISTENER]
    assert not all_types.expects(NAME_TABLE)


def test_names_that_were_sent_once_are_always_requested() -> None:
    all_types = Subscriptions(AdsVariant.SOTW, clusters=False, listeners=False, names=True)
    all_types.open(nothing)
    all_types.answer(NAME_TABLE, "1", "n")
    assert not all_types.drop_unanswered_names()
    assert all_types.expects(NAME_TABLE)


def test_only_types_of_the_bootstrap_file_are_expected() -> None:
    listeners_only = Subscriptions(AdsVariant.SOTW, clusters=False, listeners=True)
    assert [request.type_url for request in listeners_only.open(nothing)] == [LISTENER]
    assert not listeners_only.expects(CLUSTER)
    assert listeners_only.expects(ENDPOINT)
    assert not listeners_only.expects("type.googleapis.com/unheard.of")


def test_a_late_nack_has_a_nonce_of_the_same_stream() -> None:
    all_types = Subscriptions(AdsVariant.DELTA, clusters=True, listeners=True)
    all_types.open(nothing)
    assert all_types.refuse_late(LISTENER, "bad") == []
    all_types.answer(LISTENER, "1", "n7")
    assert all_types.refuse_late(LISTENER, "bad") == [
        DeltaRequest(type_url=LISTENER, nonce="n7", error="bad")
    ]
    all_types.open(nothing)
    assert all_types.refuse_late(LISTENER, "bad") == []
