"""The run of a container whose output `kubectl logs` shows."""

from __future__ import annotations

from tests.support.node_agent.container_state import Running, Terminated
from tests.support.node_agent.kubelet_api.container_logs import LoggedRun, LogOptionsError
from tests.support.node_agent.lifecycle import is_initialized
from tests.support.node_agent.pod_worker import PodWorker
from tests.support.node_agent.status import present_state

WAITS_FOR = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


def logged_run(pod: PodWorker, name: str, *, previous: bool) -> LoggedRun:
    """The present run, or the one before it; while the container waits to run again the last one is both.

    Raises LogOptionsError, in the kubelet's words, where there is no such run.
    """
    title = f'container "{name}" in pod "{pod.name.partition("/")[2]}"'
    if name not in pod.runners:
        raise LogOptionsError(f"{title} is not available")
    starts = pod.runners[name].log_starts
    shown, has_present = shown_state(pod, name)
    index = len(starts) - (2 if previous and has_present else 1)
    if index < 0 and previous:
        raise LogOptionsError(f"previous terminated {title} not found")
    if index < 0:
        reason = shown.get("waiting", {}).get("reason", "")
        raise LogOptionsError(f"{title} is waiting to start: {WAITS_FOR.get(reason, reason)}")

    def is_over() -> bool:
        return len(starts) > index + 1 or not isinstance(pod.states[name].now, Running)

    end = starts[index + 1] if index + 1 < len(starts) else None
    return LoggedRun(file=pod.sandbox.log(name), start=starts[index], end=end, is_over=is_over)


def shown_state(pod: PodWorker, name: str) -> tuple[dict[str, dict[str, str]], bool]:
    """The state in the pod's status, and whether it is that of a run."""
    (plan,) = [each for each in pod.plan.containers if each.name == name]
    state = pod.states[name]
    shown = present_state(plan, state, is_initialized(pod.plan, pod.states))
    return shown, isinstance(state.now, Running | Terminated) and "waiting" not in shown
