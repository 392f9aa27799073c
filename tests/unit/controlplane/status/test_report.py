"""The text of a status, and the changes to write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controlplane.model.proxy import ProxyRejection
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Fault, Origin, ResourceStatus, State
from controlplane.status.affected_proxies import Reach
from controlplane.status.report import Document, changes

KEY = ResourceKey(kind="VirtualService", namespace="default", name="reviews")
NOON, LATER = "2026-01-01T12:00:00Z", "2026-01-01T12:30:00Z"
NOBODY = Reach()


def applied(generation: int = 1, **fields: Any) -> ResourceStatus:
    origin = Origin(file="Kubernetes", generation=generation)
    return ResourceStatus(
        **{"key": KEY, "state": State.APPLIED, "origin": origin, "generation": 7, "in_force": True, **fields}
    )


def quarantined(fault: Fault, *reasons: str, in_force: bool, generation: int = 1) -> ResourceStatus:
    return applied(generation, state=State.QUARANTINED, fault=fault, reasons=reasons, in_force=in_force)


def written(status: ResourceStatus, reach: Reach = NOBODY, now: str = NOON, **found: Any) -> Document:
    """The status in the cluster after the write."""
    return {**found, **changes(found, status, reach, now=now)}


def refusal(proxy: str, reason: str) -> tuple[str, ProxyRejection]:
    return proxy, ProxyRejection(type="rds", names=frozenset({"80"}), reason=reason)


def words(status: Document, kind: str) -> tuple[str, str, str]:
    [found] = [each for each in status["conditions"] if each["type"] == kind]
    return found["status"], found["reason"], found["message"]


def since(status: Document, kind: str) -> str:
    [found] = [each for each in status["conditions"] if each["type"] == kind]
    return str(found["lastTransitionTime"])


def test_a_resource_in_force_everywhere_is_accepted_and_programmed() -> None:
    status = written(applied(generation=4), Reach(concerned=3, acknowledged=3))
    assert status["observedGeneration"] == 4
    assert status["proxies"] == {"concerned": 3, "acknowledged": 3}
    assert words(status, "Accepted") == ("True", "Accepted", "")
    assert words(status, "Programmed") == ("True", "Programmed", "all affected proxies have acknowledged")
    assert {each["observedGeneration"] for each in status["conditions"]} == {4}


def test_an_accepted_resource_has_its_warnings() -> None:
    status = written(applied(warnings=("spec.host: one", "spec.network: two")))
    assert words(status, "Accepted") == ("True", "Accepted", "spec.host: one; spec.network: two")


def test_a_resource_that_affects_no_proxy_is_programmed() -> None:
    assert words(written(applied()), "Programmed") == (
        "True",
        "Programmed",
        "no connected proxy is affected",
    )


def test_an_invalid_resource_with_a_last_good_version() -> None:
    status = written(quarantined(Fault.INVALID, "spec.a: bad", "spec.b: worse", in_force=True))
    assert words(status, "Accepted") == (
        "False",
        "Invalid",
        "spec.a: bad; spec.b: worse; the last good version stays in force",
    )
    assert words(status, "Programmed") == ("False", "Invalid", "the last good version stays in force")


def test_a_conflicting_resource_that_is_not_in_force() -> None:
    status = written(quarantined(Fault.CONFLICTED, "spec.hosts[0]: is already configured", in_force=False))
    assert words(status, "Accepted")[:2] == ("False", "Conflicted")
    assert words(status, "Programmed") == ("False", "Conflicted", "it is not in force")


def test_a_resource_that_some_proxies_have_not_acknowledged() -> None:
    status = written(applied(), Reach(concerned=5, acknowledged=2))
    assert words(status, "Programmed") == ("False", "Pending", "2 of 5 proxies have acknowledged")


def test_a_proxy_that_refuses_is_named_and_quoted() -> None:
    reach = Reach(concerned=5, acknowledged=2, refusals=(refusal("sidecar~a", "no such thing"),))
    assert words(written(applied(), reach), "Programmed") == (
        "False",
        "Rejected",
        "2 of 5 proxies have acknowledged; sidecar~a rejected rds: no such thing",
    )


def test_of_several_that_refuse_the_first_is_quoted_and_the_others_are_counted() -> None:
    refusals = (refusal("a", "no"), refusal("b", "no"), refusal("b", "never"), refusal("c", "no"))
    _, _, message = words(written(applied(), Reach(concerned=3, refusals=refusals)), "Programmed")
    assert message == "0 of 3 proxies have acknowledged; a rejected rds: no; 2 other proxies rejected it, too"


def test_a_rejection_of_the_last_good_version_is_reported() -> None:
    status = quarantined(Fault.INVALID, "spec: bad", in_force=True)
    reach = Reach(concerned=1, refusals=(refusal("a", "no"),))
    assert words(written(status, reach), "Programmed") == (
        "False",
        "Invalid",
        "the last good version stays in force; a rejected rds: no",
    )


def test_a_proxy_of_a_long_name_does_not_keep_a_status_from_being_written() -> None:
    reach = Reach(concerned=1, refusals=(refusal("p" * 60_000, "no"),))
    _, _, message = words(written(applied(), reach), "Programmed")
    assert len(message) < 32768, "a condition has no room for more"


def test_a_long_message_of_a_proxy_is_cut() -> None:
    reach = Reach(concerned=1, refusals=(refusal("p", "x" * 10**6),))
    assert len(words(written(applied(), reach), "Programmed")[2]) < 2000
    many = quarantined(Fault.INVALID, *["spec: " + "y" * 1000] * 100, in_force=False)
    message = words(written(many), "Accepted")[2]
    assert len(message) < 32768
    assert message.endswith(" …; it is not in force")


def test_nothing_is_written_that_is_there_already() -> None:
    status = written(applied(), Reach(concerned=1, acknowledged=1))
    assert changes(status, applied(), Reach(concerned=1, acknowledged=1), now=LATER) == {}


def test_a_transition_has_the_time_of_the_status_change_not_of_its_message() -> None:
    pending = written(applied(), Reach(concerned=2, acknowledged=0))
    still = written(applied(), Reach(concerned=2, acknowledged=1), LATER, **pending)
    assert words(still, "Programmed")[2] == "1 of 2 proxies have acknowledged"
    assert since(still, "Programmed") == NOON
    done = written(applied(), Reach(concerned=2, acknowledged=2), LATER, **still)
    assert since(done, "Programmed") == LATER
    assert since(done, "Accepted") == NOON


def test_a_new_generation_is_written_if_all_else_is_the_same() -> None:
    status = written(applied(generation=1))
    newer = written(applied(generation=2), now=LATER, **status)
    assert newer["observedGeneration"] == 2
    assert since(newer, "Accepted") == NOON


def test_conditions_of_other_writers_stay() -> None:
    foreign = {"type": "Reconciled", "status": "True", "message": "istiod's"}
    found = {"conditions": [foreign], "validationMessages": [{"code": "IST0101"}]}
    status = changes(found, applied(), Reach(), now=NOON)
    assert status["conditions"][0] == foreign
    assert [each["type"] for each in status["conditions"]] == [
        "Reconciled",
        "Accepted",
        "ResolvedRefs",
        "Programmed",
    ]
    assert "validationMessages" not in status  # a merge leaves it alone
    assert changes({**found, **status}, applied(), Reach(), now=LATER) == {}


def test_malformed_conditions_are_overwritten() -> None:
    for found in ({"conditions": "none"}, {"conditions": ["a", {"status": "True"}, {"type": {}}]}):
        status = changes(found, applied(), Reach(), now=NOON)
        assert [each["type"] for each in status["conditions"]] == ["Accepted", "ResolvedRefs", "Programmed"]


class TestResolvedRefs:
    def test_destinations_that_are_all_there(self) -> None:
        assert words(written(applied()), "ResolvedRefs") == ("True", "ResolvedRefs", "")

    def test_one_that_is_not_there_leaves_the_resource_accepted(self) -> None:
        status = written(applied(unresolved=("spec.http[0]…: no such host: requests for it get 503 (NC)",)))
        assert words(status, "ResolvedRefs") == (
            "False",
            "BackendNotFound",
            "spec.http[0]…: no such host: requests for it get 503 (NC)",
        )
        assert words(status, "Accepted") == ("True", "Accepted", "")

    def test_without_a_version_in_force_it_is_unknown(self) -> None:
        status = written(quarantined(Fault.INVALID, "spec: bad", in_force=False))
        assert words(status, "ResolvedRefs") == ("Unknown", "Invalid", "it is not in force")

    def test_a_kind_without_destinations_has_no_such_condition(self) -> None:
        rule = replace(applied(), key=replace(KEY, kind="DestinationRule"))
        assert [each["type"] for each in written(rule)["conditions"]] == ["Accepted", "Programmed"]

    def test_it_is_written_while_proxies_reconnect(self) -> None:
        before = written(applied(), Reach(concerned=9, acknowledged=9))
        after = changes(before, applied(unresolved=("spec: gone",)), Reach(), now=LATER, settling=True)
        assert words(after, "ResolvedRefs") == ("False", "BackendNotFound", "spec: gone")
        assert after["proxies"] == {"concerned": 9, "acknowledged": 9}


class TestWhileProxiesComeBack:
    def test_earlier_counts_of_the_same_generation_are_kept(self) -> None:
        status = written(applied(), Reach(concerned=9, acknowledged=9))
        assert changes(status, applied(), Reach(), now=LATER, settling=True) == {}
        assert changes(status, applied(), Reach(), now=LATER) != {}

    def test_conditions_that_do_not_depend_on_proxies_are_written(self) -> None:
        status = written(applied(), Reach(concerned=9, acknowledged=9))
        warned = changes(status, applied(warnings=("spec: odd",)), Reach(), now=LATER, settling=True)
        assert words(warned, "Accepted") == ("True", "Accepted", "spec: odd")
        assert words(warned, "Programmed")[:2] == ("True", "Programmed")
        assert warned["proxies"] == {"concerned": 9, "acknowledged": 9}

    def test_a_new_generation_is_not_programmed_while_a_proxy_is_absent(self) -> None:
        status = written(applied(), Reach(concerned=9, acknowledged=9))
        reach = Reach(concerned=1, acknowledged=1)
        newer = changes(status, applied(2), reach, now=LATER, settling=True, absent=8)
        message = "8 proxies have not reconnected to the control plane yet"
        assert words(newer, "Programmed") == ("False", "Pending", message)

    def test_a_new_generation_is_written_as_it_is(self) -> None:
        status = written(applied(), Reach(concerned=9, acknowledged=9))
        newer = changes(status, applied(2), Reach(concerned=1), now=LATER, settling=True)
        assert newer["proxies"] == {"concerned": 1, "acknowledged": 0}
        assert words(newer, "Programmed")[1] == "Pending"
