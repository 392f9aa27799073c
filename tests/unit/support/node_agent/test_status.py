from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.container_state import (
    CREATING,
    ContainerState,
    Running,
    Starting,
    Terminated,
    Waiting,
)
from tests.support.node_agent.plan import plan_of
from tests.support.node_agent.status import PodFacts, differs, states_told, status_of

NOW_S = 1_700_000_000.0
NOW, BEFORE = "2023-11-14T22:13:20Z", "2020-01-01T00:00:00Z"
FACTS = PodFacts(started_at_s=NOW_S, host_address="10.0.0.1", address="10.0.0.3")
READY = ContainerState(now=Running(id="process://r", since_s=NOW_S, started=True, ready=True))


def pod(policy: str = "Always", **fields: object) -> Resource:
    containers = [{"name": "main", "image": "web"}]
    return {"metadata": {}, "spec": {"restartPolicy": policy, "containers": containers, **fields}}


def ended(exit_code: int, *, back_off_s: float = 0.0) -> ContainerState:
    run = Terminated(
        id="process://t", exit_code=exit_code, reason="Error", started_at_s=NOW_S, finished_at_s=NOW_S
    )
    return ContainerState(now=run, back_off_s=back_off_s)


def status(found: Resource, facts: PodFacts = FACTS, **states: ContainerState) -> Resource:
    return status_of(found, plan_of(found), states, facts, NOW_S)


def conditions(status: Resource) -> dict[str, str]:
    return {each["type"]: each["status"] for each in status["conditions"]}


def test_a_pod_whose_container_is_ready_is_ready() -> None:
    found = status(pod(), main=READY)
    assert found["phase"] == "Running"
    assert set(conditions(found).values()) == {"True"}
    assert found["podIP"] == "10.0.0.3"
    assert found["containerStatuses"][0]["state"] == {"running": {"startedAt": NOW}}


def test_a_pod_without_a_network_has_no_address() -> None:
    found = status(pod(), replace(FACTS, address=None), main=ContainerState())
    assert "podIP" not in found
    assert conditions(found)["PodReadyToStartContainers"] == "False"
    assert found["phase"] == "Pending"


def test_a_main_container_waits_for_the_pods_initialization() -> None:
    found = pod(initContainers=[{"name": "init", "image": "web"}])
    told = status(found, init=READY, main=ContainerState())
    assert told["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert conditions(told)["Initialized"] == "False"


def test_a_reason_to_wait_is_reported_also_during_retries() -> None:
    waiting = Waiting(reason="ErrImagePull", message="no such image")
    states = [ContainerState(now=waiting), ContainerState(now=Starting(before=waiting))]
    told = [status(pod(), main=state)["containerStatuses"][0]["state"] for state in states]
    assert told == [{"waiting": {"reason": "ErrImagePull", "message": "no such image"}}] * 2


def test_a_container_that_waits_to_be_restarted_tells_how_it_ended() -> None:
    (told,) = status(pod(), main=ended(7, back_off_s=20))["containerStatuses"]
    assert told["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert "back-off 20s" in told["state"]["waiting"]["message"]
    assert told["lastState"]["terminated"]["exitCode"] == 7


@pytest.mark.parametrize(("exit_code", "phase"), [(0, "Succeeded"), (1, "Failed")])
def test_a_pod_that_is_over_has_the_phase_that_its_containers_exit_codes_say(
    exit_code: int, phase: str
) -> None:
    found = status(pod("Never"), replace(FACTS, terminal=True), main=ended(exit_code))
    assert found["phase"] == phase
    assert conditions(found)["Ready"] == "False"


def test_a_pod_between_two_runs_of_its_container_is_running() -> None:
    assert status(pod(), main=ended(1))["phase"] == "Running"
    restarting = replace(ended(1), now=Starting(before=CREATING), last=ended(1).now)
    assert status(pod(), main=restarting)["phase"] == "Running"


def test_a_pod_that_the_node_ended_tells_why() -> None:
    facts = replace(FACTS, terminal=True, failure=("DeadlineExceeded", "too long"))
    found = status(pod(), facts, main=ended(0))
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "DeadlineExceeded", "too long")


def test_a_pod_is_ready_when_its_readiness_gates_are_open() -> None:
    found = pod(readinessGates=[{"conditionType": "example.org/gate"}])
    closed = status(found, main=READY)
    assert (conditions(closed)["ContainersReady"], conditions(closed)["Ready"]) == ("True", "False")
    found["status"] = {"conditions": [{"type": "example.org/gate", "status": "True"}]}
    assert conditions(status(found, main=READY))["Ready"] == "True"


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    found = pod()
    earlier = [
        {"type": "Initialized", "status": "True", "lastTransitionTime": BEFORE},
        {"type": "Ready", "status": "False", "lastTransitionTime": BEFORE},
    ]
    found["status"] = {"conditions": earlier}
    times = {each["type"]: each["lastTransitionTime"] for each in status(found, main=READY)["conditions"]}
    assert (times["Initialized"], times["Ready"]) == (BEFORE, NOW)


def test_a_status_that_is_written_already_does_not_differ() -> None:
    wanted = status(pod(), main=READY)
    others = {"type": "PodScheduled", "status": "True", "lastProbeTime": None}
    written = {**wanted, "qosClass": "BestEffort", "conditions": [others, *reversed(wanted["conditions"])]}
    assert not differs(wanted, written)
    assert differs(wanted, {**written, "phase": "Pending"})
    assert differs(wanted, {**written, "conditions": [others]})
    assert differs(wanted, {})


def test_a_new_node_knows_which_containers_may_not_run_again() -> None:
    failed = pod("Never")
    written = status(failed, main=ended(7))
    assert states_told(plan_of(failed), written)["main"].exit_code == 7
    again = pod("OnFailure")
    assert states_told(plan_of(again), status(again, main=ended(7))) == {}
    assert states_told(plan_of(pod()), written) == {}
