from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.container_state import (
    CREATING,
    BackOff,
    ContainerState,
    Ending,
    Running,
    Starting,
    Terminated,
    Waiting,
)
from tests.support.node_agent.lifecycle import Decision, Stop, decide, has_finished, is_initialized
from tests.support.node_agent.plan import PodPlan, plan_of

NOW_S = 1000.0
WAITING = ContainerState()
RUNNING = ContainerState(now=Running(id="r", since_s=NOW_S))
STARTED = ContainerState(now=Running(id="r", since_s=NOW_S, started=True))


def ended(exit_code: int = 0, *, ago_s: float = 0.0, back_off_s: float = 0.0) -> ContainerState:
    at_s = NOW_S - ago_s
    run = Terminated(id="t", exit_code=exit_code, reason="", started_at_s=at_s, finished_at_s=at_s)
    return ContainerState(now=run, back_off_s=back_off_s)


def plan(*init: str, main: tuple[str, ...] = ("main",), policy: str = "Always", hooks: str = "") -> PodPlan:
    """Init containers by name; those whose name begins with `side` are sidecars."""

    def container(name: str) -> Resource:
        found: Resource = {"name": name, "image": "none"}
        if name.startswith("side"):
            found["restartPolicy"] = "Always"
        if name in hooks.split():
            found["lifecycle"] = {"preStop": {"sleep": {"seconds": 1}}}
        return found

    spec = {"restartPolicy": policy, "containers": [*map(container, main)]}
    return plan_of({"spec": {**spec, "initContainers": [*map(container, init)]}})


def test_init_containers_start_one_after_another() -> None:
    pod = plan("a", "b")
    assert decide(pod, {"a": WAITING, "b": WAITING, "main": WAITING}, None, NOW_S).start == ("a",)
    assert decide(pod, {"a": RUNNING, "b": WAITING, "main": WAITING}, None, NOW_S).start == ()
    assert decide(pod, {"a": ended(), "b": WAITING, "main": WAITING}, None, NOW_S).start == ("b",)
    assert decide(pod, {"a": ended(), "b": ended(), "main": WAITING}, None, NOW_S).start == ("main",)


def test_containers_after_a_sidecar_wait_until_it_has_started() -> None:
    pod = plan("side", "b")
    assert decide(pod, {"side": RUNNING, "b": WAITING, "main": WAITING}, None, NOW_S).start == ()
    assert decide(pod, {"side": STARTED, "b": WAITING, "main": WAITING}, None, NOW_S).start == ("b",)


def test_a_sidecar_that_ends_is_restarted_while_an_init_container_runs() -> None:
    states = {"side": ended(1), "b": RUNNING, "main": WAITING}
    assert decide(plan("side", "b"), states, None, NOW_S).start == ("side",)


def test_once_initialized_a_main_container_does_not_wait_for_a_sidecars_restart() -> None:
    pod, states = plan("side"), {"side": RUNNING, "main": ended(1)}
    assert is_initialized(pod, states)
    assert decide(pod, states, None, NOW_S).start == ("main",)


def test_a_main_container_waits_for_the_post_start_hook_of_the_one_before_it() -> None:
    containers = [{"name": "proxy", "lifecycle": {"postStart": {}}}, {"name": "main"}]
    plan = plan_of({"spec": {"containers": containers}})
    waiting = ContainerState()
    hooked = ContainerState(now=Running(id="r", since_s=NOW_S, post_started=True))
    assert decide(plan, {"proxy": waiting, "main": waiting}, None, NOW_S).start == ("proxy",)
    assert decide(plan, {"proxy": RUNNING, "main": waiting}, None, NOW_S).start == ()
    assert decide(plan, {"proxy": hooked, "main": waiting}, None, NOW_S).start == ("main",)
    # One that has crashed delays no other.
    crashed = ended(1, back_off_s=60)
    assert decide(plan, {"proxy": crashed, "main": waiting}, None, NOW_S).start == ("main",)


def test_a_container_whose_process_is_being_made_is_not_started_twice() -> None:
    states = {"main": ContainerState(now=Starting(before=CREATING))}
    assert decide(plan(), states, None, NOW_S) == Decision()


@pytest.mark.parametrize(
    ("policy", "exit_code", "restarts"),
    [("Always", 0, True), ("OnFailure", 1, True), ("OnFailure", 0, False), ("Never", 1, False)],
)
def test_the_restart_policy_decides_whether_a_main_container_runs_again(
    policy: str, exit_code: int, restarts: bool
) -> None:
    pod, states = plan(policy=policy), {"main": ended(exit_code)}
    assert bool(decide(pod, states, None, NOW_S).start) is restarts
    assert has_finished(pod, states) is not restarts


def test_a_failed_init_container_runs_again_unless_nothing_may() -> None:
    states = {"a": ended(1), "main": WAITING}
    assert decide(plan("a"), states, None, NOW_S).start == ("a",)
    assert has_finished(plan("a", policy="Never"), states)


def test_a_restart_waits_for_the_back_off() -> None:
    states = {"main": ended(1, ago_s=4, back_off_s=10)}
    assert decide(plan(), states, None, NOW_S) == Decision(look_again_at_s=NOW_S + 6)
    assert decide(plan(), states, None, NOW_S + 6).start == ("main",)


def test_a_container_that_cannot_start_is_tried_again_later() -> None:
    states = {"main": ContainerState(now=Waiting(reason="ErrImagePull", retry_at_s=NOW_S + 1))}
    assert decide(plan(), states, None, NOW_S) == Decision(look_again_at_s=NOW_S + 1)


def test_the_back_off_doubles_up_to_its_limit_and_is_forgotten_after_a_long_run() -> None:
    back_off = BackOff(initial_s=10, limit_s=35)
    state, delays = ended(1), []
    for _ in range(4):
        state = state.starting(back_off)
        delays.append(state.back_off_s)
        state = replace(state, now=ended(1).now)
    assert delays == [10, 20, 35, 35]
    assert state.restarts == 4
    assert isinstance(state.now, Terminated)
    long_run = replace(state.now, started_at_s=NOW_S - 601)
    assert replace(state, now=long_run).starting(back_off).back_off_s == 10


def test_a_condemned_container_ends_alone_after_its_pre_stop_hook() -> None:
    pod = plan(main=("main", "other"), hooks="main")
    condemned = STARTED.with_running(end_by_s=NOW_S + 20)
    stop = (Stop(name="main", grace_s=20),)
    assert decide(pod, {"main": condemned, "other": STARTED}, None, NOW_S) == Decision(pre_stop=stop)
    hooked = condemned.with_running(ending=Ending.PRE_STOP)
    assert decide(pod, {"main": hooked, "other": STARTED}, None, NOW_S) == Decision()
    hooked = condemned.with_running(ending=Ending.PRE_STOPPED)
    assert decide(pod, {"main": hooked, "other": STARTED}, None, NOW_S) == Decision(stop=stop)
    signalled = condemned.with_running(ending=Ending.SIGNALLED)
    assert decide(pod, {"main": signalled, "other": STARTED}, None, NOW_S) == Decision()


def test_at_the_end_sidecars_wait_for_the_main_containers_and_for_later_sidecars() -> None:
    pod, by_s = plan("side1", "side2", main=("a", "b")), NOW_S + 30
    states = dict.fromkeys(("side1", "side2", "a", "b"), STARTED)
    stops = []
    while any(state.runs for state in states.values()):
        names = [stop.name for stop in decide(pod, states, by_s, NOW_S).stop]
        stops.append(names)
        states |= dict.fromkeys(names, ended())
    assert stops == [["a", "b"], ["side2"], ["side1"]]


def test_at_the_end_a_sidecars_hook_runs_at_once_and_its_signal_comes_in_turn() -> None:
    pod, states = plan("side", hooks="side"), {"side": STARTED, "main": STARTED}
    decision = decide(pod, states, NOW_S + 30, NOW_S)
    assert [hook.name for hook in decision.pre_stop] == ["side"]
    assert [stop.name for stop in decision.stop] == ["main"]
    states["side"] = STARTED.with_running(ending=Ending.PRE_STOPPED)
    states["main"] = STARTED.with_running(ending=Ending.SIGNALLED)
    assert decide(pod, states, NOW_S + 30, NOW_S) == Decision(look_again_at_s=NOW_S + 30)


def test_no_turn_is_waited_for_when_the_grace_period_is_over() -> None:
    states = {"side": STARTED, "main": STARTED.with_running(ending=Ending.SIGNALLED)}
    decision = decide(plan("side"), states, NOW_S, NOW_S)
    assert decision.stop == (Stop(name="side", grace_s=2),)


def test_nothing_starts_once_the_pod_is_to_end() -> None:
    assert decide(plan(), {"main": WAITING}, NOW_S + 30, NOW_S) == Decision()
    assert decide(plan(), {"main": ended(1)}, NOW_S + 30, NOW_S) == Decision()
