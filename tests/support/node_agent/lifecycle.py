"""Decides the next actions for a pod's containers from their states. Pure.

Kubernetes, "Pod Lifecycle" and "Sidecar Containers": init containers run one after another, each until it
succeeds; a sidecar among them runs on, and the next begins once it has started; the main containers run
together after that. At the end the main containers are stopped first, then the sidecars, the last one first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.support.node_agent.container_state import CREATING, ContainerState, Ending, Running, Starting
from tests.support.node_agent.plan import ContainerPlan, PodPlan, Role

MINIMUM_GRACE_S = 2.0  # as in the kubelet: SIGTERM comes before SIGKILL in any case

States = Mapping[str, ContainerState]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Send it SIGTERM, and SIGKILL when it still runs after the grace period."""

    name: str
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Containers to start, preStop hooks to run, containers to stop; and when to look again at the latest
    (seconds since the epoch), should nothing happen before."""

    start: tuple[str, ...] = ()
    pre_stop: tuple[Stop, ...] = ()
    stop: tuple[Stop, ...] = ()
    look_again_at_s: float | None = None


def has_finished(plan: PodPlan, states: States) -> bool:
    """No main container runs or will run again, or none ever will: an init container has failed for good."""
    return init_has_failed(plan, states) or all(is_done(each, states[each.name]) for each in plan.main)


def init_has_failed(plan: PodPlan, states: States) -> bool:
    return any(
        states[each.name].exit_code not in {None, 0} and is_done(each, states[each.name])
        for each in plan.of_role(Role.INIT)
    )


def is_done(container: ContainerPlan, state: ContainerState) -> bool:
    """It has ended, and will not run again."""
    return state.exit_code is not None and not container.restarts_after(state.exit_code)


def is_initialized(plan: PodPlan, states: States) -> bool:
    """The init containers have succeeded and the sidecars have started, which may restart later."""
    if any(states[each.name].has_run for each in plan.main):
        return True
    return all(has_prepared(each, states[each.name]) for each in plan.preparing)


def has_prepared(container: ContainerPlan, state: ContainerState) -> bool:
    """The container after it may begin."""
    if container.role is Role.SIDECAR:
        return isinstance(state.now, Running) and state.now.started
    return state.exit_code == 0


def decide(plan: PodPlan, states: States, end_by_s: float | None, now_s: float) -> Decision:
    """`end_by_s` is given from when on the pod is to end: it is when its grace period ends."""
    if end_by_s is not None:
        return decide_end(plan, states, end_by_s, now_s)
    wanted = [each.name for each in wanted_containers(plan, states)]
    waiting = {name: at for name in wanted if (at := states[name].may_start_at_s) is not None}
    later = [at for at in waiting.values() if at > now_s]
    condemned = {
        name: Stop(name=name, grace_s=remaining(state.now.end_by_s, now_s))
        for name, state in states.items()
        if isinstance(state.now, Running) and state.now.end_by_s is not None
    }
    return Decision(
        start=tuple(name for name, at in waiting.items() if at <= now_s),
        pre_stop=tuple(condemned[name] for name in due_hooks(plan, states) if name in condemned),
        stop=tuple(condemned[name] for name in due_signals(plan, states) if name in condemned),
        look_again_at_s=min(later, default=None),
    )


def wanted_containers(plan: PodPlan, states: States) -> Iterator[ContainerPlan]:
    """Those that are to run now, whether they do or not."""
    initialized = is_initialized(plan, states)
    for each in plan.preparing:
        if each.role is Role.SIDECAR or not (initialized or is_done(each, states[each.name])):
            yield each
        if not initialized and not has_prepared(each, states[each.name]):
            return
    for each in plan.main:
        if not is_done(each, states[each.name]):
            yield each
        if each.has_post_start and is_starting(states[each.name]):
            return


def is_starting(state: ContainerState) -> bool:
    """Its first start is not over. The kubelet starts a pod's containers one after another, each when the
    postStart hook of the one before has run: by that a mesh starts its proxy before the application."""
    if isinstance(state.now, Running):
        return not state.now.post_started
    return isinstance(state.now, Starting) or state.now == CREATING


def decide_end(plan: PodPlan, states: States, end_by_s: float, now_s: float) -> Decision:
    """All preStop hooks run at once; then SIGTERM to each container whose turn it is, or whose time is up."""
    grace_s = remaining(end_by_s, now_s)
    hooks, signals = due_hooks(plan, states), due_signals(plan, states)
    in_turn = signals if now_s >= end_by_s else [each for each in signals if is_its_turn(each, plan, states)]
    return Decision(
        pre_stop=tuple(Stop(name=name, grace_s=grace_s) for name in hooks),
        stop=tuple(Stop(name=name, grace_s=grace_s) for name in in_turn),
        look_again_at_s=end_by_s if len(in_turn) < len(signals) else None,
    )


def is_its_turn(name: str, plan: PodPlan, states: States) -> bool:
    """A sidecar's turn comes when all containers that end before it have ended."""
    names = [each.name for each in plan.containers]
    sidecars = {each.name for each in plan.of_role(Role.SIDECAR)}
    earlier = set(names[: names.index(name)]) & sidecars
    return name not in sidecars or not any(
        states[other].runs for other in names if other != name and other not in earlier
    )


def due_hooks(plan: PodPlan, states: States) -> list[str]:
    """The preStop hooks that a container's end begins with."""
    return [
        each.name
        for each in plan.containers
        if each.has_pre_stop and ending(states[each.name]) is Ending.NOT_BEGUN
    ]


def due_signals(plan: PodPlan, states: States) -> list[str]:
    """The containers whose next step to their end is SIGTERM."""
    return [
        each.name
        for each in plan.containers
        if ending(states[each.name]) is (Ending.PRE_STOPPED if each.has_pre_stop else Ending.NOT_BEGUN)
    ]


def ending(state: ContainerState) -> Ending | None:
    """None where it does not run."""
    return state.now.ending if isinstance(state.now, Running) else None


def has_ended(states: States) -> bool:
    return not any(isinstance(state.now, Starting | Running) for state in states.values())


def remaining(end_by_s: float, now_s: float) -> float:
    return max(end_by_s - now_s, MINIMUM_GRACE_S)
