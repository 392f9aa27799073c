"""A proxy's claims, compared with its token and with the object of its workload."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.errors import PermissionDeniedError, UnknownWorkloadError
from controlplane.model.known_workloads import KnownWorkloads
from controlplane.model.proxy import Caller, Proxy, ProxyType
from controlplane.model.service import Registry, Workload
from controlplane.xds.identification import Claims, Identification
from protos.spiffe import SpiffeId

CLUSTER = Identification(knows_all=True)
FOLDER = Identification(knows_all=False)

POD = Workload(
    name="reviews-1",
    namespace="bookinfo",
    address="10.0.0.1",
    labels={"app": "reviews", "version": "v1"},
    service_account="reviews",
    registry=Registry.KUBERNETES,
    uid="u1",
    node="node-1",
    addresses=("10.0.0.1", "fd00::1"),
)
ENTRY = Workload(
    name="reviews-1",
    namespace="bookinfo",
    address="vm.example.com",
    labels={"app": "reviews"},
    service_account="reviews",
)
NOTHING = KnownWorkloads()


def pods(*workloads: Workload) -> KnownWorkloads:
    return KnownWorkloads(pods={(each.namespace, each.name): each for each in workloads})


def entries(*workloads: Workload) -> KnownWorkloads:
    return KnownWorkloads(entries={(each.namespace, each.name): each for each in workloads})


def token(pod: str = "", uid: str = "", *, namespace: str = "bookinfo", account: str = "reviews") -> Caller:
    return Caller(identity=SpiffeId("cluster.local", namespace, account), pod_name=pod, pod_uid=uid)


BOUND = token("reviews-1", "u1")


def claims(caller: Caller | None = BOUND, *, returns: bool = False, **claimed: Any) -> Claims:
    proxy = Proxy(
        **{
            "id": "sidecar~10.0.0.1~reviews-1.bookinfo~bookinfo.svc.cluster.local",
            "type": ProxyType.SIDECAR,
            "namespace": "bookinfo",
            "workload": "reviews-1",
            "ip": "10.0.0.1",
        }
        | claimed
    )
    return Claims(proxy=proxy, caller=caller, remote=caller is not None, returns=returns)


@pytest.mark.parametrize("caller", [BOUND, token(), None], ids=["bound", "unbound", "plaintext"])
def test_the_pod_supplies_metadata_that_the_node_omits(caller: Caller | None) -> None:
    found = CLUSTER.identify(claims(caller, ip="127.0.0.1"), pods(POD))
    assert found.workload is POD
    assert found.proxy.labels == POD.labels
    assert (found.proxy.service_account, found.proxy.node) == ("reviews", "node-1")
    assert found.proxy.ip == "10.0.0.1"


def test_claims_that_match_the_pod_are_accepted() -> None:
    """An empty label is the downward API's value for a label that is missing."""
    same = claims(
        labels={"app": "reviews", "role": ""},
        service_account="reviews",
        node="node-1",
        ip="fd00:0:0:0:0:0:0:1",
    )
    found = CLUSTER.identify(same, pods(POD))
    assert found.proxy.labels == POD.labels
    assert not found.outdated


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        ({"labels": {"app": "ratings"}}, "its label app is 'ratings', expected 'reviews'"),
        ({"labels": {"app": ""}}, "its label app is '', expected 'reviews'"),
        ({"labels": {"role": "admin"}}, "its label role='admin' does not exist on the object"),
        ({"node": "node-2"}, "its node is 'node-2', expected 'node-1'"),
        ({"ip": "10.0.0.2"}, "its address is 10.0.0.2, expected 10.0.0.1 or fd00::1"),
        ({"service_account": "ratings"}, "its service account is 'ratings', expected 'reviews'"),
    ],
)
@pytest.mark.parametrize("caller", [BOUND, token(), None], ids=["bound", "unbound", "plaintext"])
def test_a_claim_that_contradicts_the_pod_is_rejected_with_the_reason(
    caller: Caller | None, claimed: dict[str, Any], words: str
) -> None:
    if "service_account" in claimed and caller is not None:
        words = (
            "claims namespace 'bookinfo', service account 'ratings', but its token belongs to .*sa/reviews"
        )
    with pytest.raises(PermissionDeniedError, match=words):
        CLUSTER.identify(claims(caller, **claimed), pods(POD))


@pytest.mark.parametrize(
    ("caller", "words"),
    [
        (token(namespace="other"), "claims namespace 'bookinfo'.*its token belongs to .*ns/other"),
        (
            token("ratings-1", "u2"),
            "claims the Pod 'reviews-1', but its token belongs to the Pod .*ratings-1",
        ),
        (token(account="ratings"), "token belongs to the service account 'ratings', expected 'reviews'"),
    ],
)
def test_a_token_of_another_workload_is_rejected_with_the_reason(caller: Caller, words: str) -> None:
    with pytest.raises(PermissionDeniedError, match=words):
        CLUSTER.identify(claims(caller), pods(POD))


@pytest.mark.parametrize(
    ("caller", "known", "words"),
    [
        (BOUND, NOTHING, "the Pod or WorkloadEntry bookinfo/reviews-1 does not exist, or is not known yet"),
        (token(), NOTHING, "the Pod or WorkloadEntry bookinfo"),
        (
            BOUND,
            pods(replace(POD, uid="u0")),
            "with the uid 'u1', but the known Pod of that name has another",
        ),
        (BOUND, entries(ENTRY), "the known Pod of that name has another uid"),
    ],
)
def test_a_proxy_of_an_unknown_pod_is_rejected(caller: Caller, known: KnownWorkloads, words: str) -> None:
    with pytest.raises(UnknownWorkloadError, match=words):
        CLUSTER.identify(claims(caller), known)


def test_a_proxy_outside_a_pod_is_trusted_in_plaintext_on_loopback() -> None:
    unknown = claims(None, labels={"app": "mine"})
    assert CLUSTER.identify(unknown, NOTHING).proxy == unknown.proxy


def test_a_proxy_outside_a_pod_is_rejected_over_tls_even_without_token_checks() -> None:
    with pytest.raises(UnknownWorkloadError):
        CLUSTER.identify(replace(claims(None), remote=True), NOTHING)


def test_without_a_pod_in_its_token_a_proxy_is_the_pod_at_its_address() -> None:
    found = CLUSTER.identify(claims(token(), workload="grpc-client"), pods(POD))
    assert (found.proxy.workload, found.proxy.labels) == ("reviews-1", POD.labels)
    with pytest.raises(UnknownWorkloadError):
        CLUSTER.identify(claims(token(), workload="grpc-client", ip="127.0.0.1"), pods(POD))


def test_the_address_of_a_pod_can_become_known_later() -> None:
    """A kubelet starts a pod's containers before it writes the pod's address."""
    starting = replace(POD, address="", addresses=())
    first = CLUSTER.identify(claims(), pods(starting))
    assert first.proxy.ip == "10.0.0.1"
    assert CLUSTER.follow(claims(), first, pods(POD)).proxy == first.proxy
    with pytest.raises(PermissionDeniedError, match=r"its address is 10.0.0.1, expected 10.0.0.3"):
        CLUSTER.follow(claims(), first, pods(replace(POD, addresses=("10.0.0.3",))))


def test_labels_that_change_later_are_the_proxys() -> None:
    claimed = claims(labels={"app": "reviews"})
    first = CLUSTER.identify(claimed, pods(POD))
    relabelled = replace(POD, labels={"app": "legacy"})
    later = CLUSTER.follow(claimed, first, pods(relabelled))
    assert later.proxy.labels == {"app": "legacy"}
    assert CLUSTER.follow(claimed, later, pods(relabelled)) is later


def test_a_proxy_that_comes_back_may_not_have_heard_of_its_new_labels() -> None:
    relabelled = pods(replace(POD, labels={"app": "legacy"}))
    claimed = {"app": "reviews"}
    with pytest.raises(PermissionDeniedError):
        CLUSTER.identify(claims(labels=claimed), relabelled)
    back = CLUSTER.identify(claims(labels=claimed, returns=True), relabelled)
    assert back.proxy.labels == {"app": "legacy"}
    assert back.outdated == ("its label app is 'reviews', expected 'legacy'",)


@pytest.mark.parametrize("known", [NOTHING, pods(replace(POD, uid="u2"))], ids=["gone", "another"])
@pytest.mark.parametrize("caller", [BOUND, token(), None], ids=["bound", "unbound", "plaintext"])
def test_the_stream_of_a_deleted_pod_is_ended(caller: Caller | None, known: KnownWorkloads) -> None:
    first = CLUSTER.identify(claims(caller), pods(POD))
    with pytest.raises(PermissionDeniedError, match="Pod bookinfo/reviews-1 was deleted"):
        CLUSTER.follow(claims(caller), first, known)


def test_a_workload_entry_identifies_a_machine_outside_the_cluster() -> None:
    found = CLUSTER.identify(claims(token()), entries(ENTRY))
    assert found.proxy.labels == {"app": "reviews"}
    assert found.proxy.ip == "10.0.0.1"  # clients may reach it at another address
    with pytest.raises(PermissionDeniedError, match="label version='v1'"):
        CLUSTER.identify(claims(token(), labels={"version": "v1"}), entries(ENTRY))


class TestFolder:
    def test_the_claims_of_a_workload_without_an_entry_are_accepted(self) -> None:
        claimed = claims(token(), labels={"app": "reviews"})
        assert FOLDER.identify(claimed, NOTHING).proxy == claimed.proxy

    def test_an_entry_supplies_metadata_that_the_node_omits(self) -> None:
        found = FOLDER.identify(claims(token(), labels={"version": "v1"}), entries(ENTRY))
        assert found.proxy.labels == {"app": "reviews", "version": "v1"}

    def test_a_claim_that_contradicts_an_entry_is_rejected_with_the_reason(self) -> None:
        with pytest.raises(PermissionDeniedError, match="its label app is 'ratings', expected 'reviews'"):
            FOLDER.identify(claims(token(), labels={"app": "ratings"}), entries(ENTRY))

    def test_only_the_token_determines_the_identity(self) -> None:
        """Clients expect the entry's service account, and reject the proxy."""
        found = FOLDER.identify(claims(token(account="ratings"), service_account="ratings"), entries(ENTRY))
        assert found.proxy.service_account == "ratings"

    def test_an_entry_that_comes_changes_and_goes_is_followed(self) -> None:
        claimed = claims(token(), labels={"version": "v1"})
        alone = FOLDER.identify(claimed, NOTHING)
        with_entry = FOLDER.follow(claimed, alone, entries(ENTRY))
        assert with_entry.proxy.labels["app"] == "reviews"
        changed = FOLDER.follow(claimed, with_entry, entries(replace(ENTRY, labels={"version": "v2"})))
        assert changed.proxy.labels == {"version": "v2"}
        assert FOLDER.follow(claimed, changed, NOTHING).proxy == claimed.proxy
