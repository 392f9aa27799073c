"""A Pod's status, as the kubelet writes it, from the states of its containers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.container_state import ContainerState, Running, Starting, Terminated
from tests.support.node_agent.lifecycle import States, has_prepared, init_has_failed, is_done, is_initialized
from tests.support.node_agent.plan import ContainerPlan, PodPlan, RestartPolicy, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """The parts of a pod's status that its containers do not decide. `address` is None until it has a
    network; `failure` is why the node ended the pod, as (reason, message)."""

    started_at_s: float
    host_address: str
    address: str | None
    terminal: bool = False
    failure: tuple[str, str] | None = None


def status_of(pod: Resource, plan: PodPlan, states: States, facts: PodFacts, now_s: float) -> Resource:
    """The fields of `Pod.status` that are the node's. A condition keeps its time while it stays the same."""
    phase = phase_of(plan, states, facts)
    status: Resource = {
        "phase": phase,
        "conditions": conditions(pod, plan, states, facts, phase, now_s),
        "hostIP": facts.host_address,
        "hostIPs": [{"ip": facts.host_address}],
        "startTime": timestamp(facts.started_at_s),
        "containerStatuses": statuses(pod["spec"]["containers"], plan.main, plan, states),
    }
    if facts.address is not None:
        status |= {"podIP": facts.address, "podIPs": [{"ip": facts.address}]}
    if plan.preparing:
        status["initContainerStatuses"] = statuses(
            pod["spec"]["initContainers"], plan.preparing, plan, states
        )
    if facts.failure is not None:
        status["reason"], status["message"] = facts.failure
    return status


def phase_of(plan: PodPlan, states: States, facts: PodFacts) -> str:
    if facts.failure is not None:
        return "Failed"
    if facts.terminal:
        failed = init_has_failed(plan, states) or any(states[each.name].exit_code != 0 for each in plan.main)
        return "Failed" if failed else "Succeeded"
    return "Running" if all(states[each.name].has_run for each in plan.main) else "Pending"


def conditions(
    pod: Resource, plan: PodPlan, states: States, facts: PodFacts, phase: str, now_s: float
) -> list[Resource]:
    """The node's own conditions; those of the scheduler and of readiness gates are left to their writers."""
    before = {each["type"]: each for each in pod.get("status", {}).get("conditions", ())}
    unready = [
        each.name
        for each in plan.containers
        if each.role is not Role.INIT and not is_ready(states[each.name])
    ]
    unprepared = [each.name for each in plan.preparing if not has_prepared(each, states[each.name])]
    over = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates", ())]
    closed = [gate for gate in gates if before.get(gate, {}).get("status") != "True"]

    initialized = is_initialized(plan, states)
    found = {
        "PodReadyToStartContainers": (facts.address is not None and not facts.terminal, "", ""),
        "Initialized": (
            (True, "", "")
            if initialized
            else (
                False,
                "ContainersNotInitialized",
                f"containers with incomplete status: {words(unprepared)}",
            )
        ),
        "ContainersReady": containers_ready(unready, over),
    }
    found["Ready"] = found["ContainersReady"]
    if found["Ready"][0] and closed:
        message = f'the status of pod readiness gate {words(closed)} is not "True", but not all are ready'
        found["Ready"] = (False, "ReadinessGatesNotReady", message)
    return [condition(kind, *value, before.get(kind), now_s) for kind, value in found.items()]


def containers_ready(unready: list[str], over: str | None) -> tuple[bool, str, str]:
    if over is not None:
        return (False, over, "")
    if unready:
        return (False, "ContainersNotReady", f"containers with unready status: {words(unready)}")
    return (True, "", "")


def condition(
    kind: str, holds: bool, reason: str, message: str, before: Resource | None, now_s: float
) -> Resource:
    status = str(holds)
    kept = before is not None and before["status"] == status
    return {
        "type": kind,
        "status": status,
        "reason": reason or None,
        "message": message or None,
        "lastTransitionTime": before["lastTransitionTime"] if before and kept else timestamp(now_s),
    }


def statuses(
    containers: list[Resource], plans: tuple[ContainerPlan, ...], plan: PodPlan, states: States
) -> list[Resource]:
    initialized = is_initialized(plan, states)
    specs = {container["name"]: container for container in containers}
    return [container_status(each, specs[each.name], states[each.name], initialized) for each in plans]


def container_status(
    plan: ContainerPlan, spec: Resource, state: ContainerState, initialized: bool
) -> Resource:
    running = state.now if isinstance(state.now, Running) else None
    found: Resource = {
        "name": plan.name,
        "image": spec["image"],
        "imageID": f"program://{spec['image']}" if state.has_run else "",
        "resources": spec.get("resources") or None,
        "restartCount": state.restarts,
        "ready": is_ready(state) if plan.role is not Role.INIT else state.exit_code == 0,
        "started": running is not None and running.started,
        "state": present_state(plan, state, initialized),
    }
    crashed = isinstance(state.now, Terminated) and "waiting" in found["state"]
    last = state.now if crashed else state.last
    found["lastState"] = {"terminated": terminated(last)} if isinstance(last, Terminated) else {}
    latest = state.now if isinstance(state.now, Running | Terminated) else state.last
    if latest is not None:
        found["containerID"] = latest.id
    return found


def present_state(plan: ContainerPlan, state: ContainerState, initialized: bool) -> Resource:
    now = state.now
    if isinstance(now, Running):
        return {"running": {"startedAt": timestamp(now.since_s)}}
    if isinstance(now, Terminated):
        if is_done(plan, state) or state.back_off_s == 0:
            return {"terminated": terminated(now)}
        return {"waiting": {"reason": "CrashLoopBackOff", "message": back_off_message(plan, state)}}
    waiting = now.before if isinstance(now, Starting) else now
    if waiting.message:
        return {"waiting": {"reason": waiting.reason, "message": waiting.message}}
    prepared = initialized or plan.role is not Role.MAIN
    return {"waiting": {"reason": "ContainerCreating" if prepared else "PodInitializing"}}


def back_off_message(plan: ContainerPlan, state: ContainerState) -> str:
    return f"back-off {state.back_off_s:g}s restarting failed container={plan.name}"


def terminated(run: Terminated) -> Resource:
    return {
        "exitCode": run.exit_code,
        "reason": run.reason,
        "message": run.message or None,
        "startedAt": timestamp(run.started_at_s),
        "finishedAt": timestamp(run.finished_at_s),
        "containerID": run.id,
    }


def is_ready(state: ContainerState) -> bool:
    return isinstance(state.now, Running) and state.now.ready


def differs(wanted: Resource, found: Resource) -> bool:
    """Whether writing the wanted status changes the one found, which may have conditions of other writers."""
    kinds = [each["type"] for each in wanted["conditions"]]
    present = {each["type"]: each for each in found.get("conditions", ())}
    ours = {key: found.get(key) for key in wanted}
    ours["conditions"] = [present[kind] for kind in kinds if kind in present]
    return bool(without_nothing(wanted) != without_nothing(ours))


def without_nothing(value: Any) -> Any:
    """As the API server keeps it: no fields that are null."""
    if isinstance(value, dict):
        return {key: without_nothing(each) for key, each in value.items() if each is not None}
    return [without_nothing(each) for each in value] if isinstance(value, list) else value


def states_told(plan: PodPlan, status: Resource) -> dict[str, ContainerState]:
    """The containers that are not to run again when the node is started anew, by the status that it wrote
    before. The API allows no other status for them; a pod that always restarts begins from the beginning."""
    told: dict[str, ContainerState] = {}
    if any(each.restart_policy is RestartPolicy.ALWAYS for each in plan.main):
        return told
    by_name = {each.name: each for each in plan.containers}
    for each in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if (end := each["state"].get("terminated")) is None:
            continue
        run = Terminated(
            id=end.get("containerID", ""),
            exit_code=end["exitCode"],
            reason=end.get("reason", ""),
            started_at_s=seconds(end["startedAt"]),
            finished_at_s=seconds(end["finishedAt"]),
            message=end.get("message", ""),
        )
        state = ContainerState(now=run, restarts=each["restartCount"])
        if is_done(by_name[each["name"]], state):
            told[each["name"]] = state
    return told


def timestamp(at_s: float) -> str:
    """RFC 3339, in whole seconds, as Kubernetes' `metav1.Time`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def words(names: list[str]) -> str:
    return f"[{' '.join(names)}]"
