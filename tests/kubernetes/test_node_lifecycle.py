"""The order in which a pod's containers start, restart and end."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.node import RunningNode
from tests.support.pod_specs import (
    UNTIL_TERM,
    Pods,
    catches,
    container_status,
    pod,
    printed,
    processes_of,
    shell,
    signal_first_process,
)

pytestmark = pytest.mark.needs_node


async def test_a_pod_that_may_not_restart_fails_with_its_exit_code(pods: Pods) -> None:
    await pods.create(pod("fails", shell("main", "exit 7"), restartPolicy="Never"))
    found = await pods.in_phase("fails", "Failed")
    ended = container_status(found, "main")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (7, "Error")


async def test_a_killed_container_restarts(pods: Pods) -> None:
    await pods.create(pod("killed", shell("main", UNTIL_TERM)))
    await pods.with_condition("killed", "Ready")
    signal_first_process("killed", signal.SIGKILL)

    async def restarted() -> Resource | None:
        status = container_status(await pods.get("killed"), "main")
        return status if status["restartCount"] and "running" in status["state"] else None

    status = await eventually(restarted, "the container runs again")
    assert status["lastState"]["terminated"]["exitCode"] == 128 + signal.SIGKILL
    await pods.with_condition("killed", "Ready")


async def test_a_container_that_crashes_again_and_again_waits_before_its_restarts(pods: Pods) -> None:
    await pods.create(pod("crashes", shell("main", "exit 1")))

    async def backs_off() -> bool:
        status = container_status(await pods.get("crashes"), "main")
        waits = status.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        return bool(waits and status["restartCount"] >= 2)

    await eventually(backs_off, "it waits longer each time")


async def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace_period(pods: Pods) -> None:
    spec = {"terminationGracePeriodSeconds": 3}
    await pods.create(pod("stubborn", shell("main", "trap '' TERM; sleep infinity & wait; wait"), **spec))
    await pods.with_condition("stubborn", "Ready")
    asked_at_s = time.monotonic()
    await pods.delete("stubborn")
    await pods.gone("stubborn")
    assert 3 <= time.monotonic() - asked_at_s < 8
    assert processes_of("stubborn") == []


async def test_a_pod_that_obeys_sigterm_ends_before_its_grace_period(node: RunningNode, pods: Pods) -> None:
    spec = {"terminationGracePeriodSeconds": 30}
    script = "trap 'echo last words; exit 0' TERM; sleep infinity & wait"
    await pods.create(pod("obedient", shell("main", script), **spec))
    await pods.with_condition("obedient", "Ready")

    async def obeys() -> bool:
        return catches("obedient", signal.SIGTERM)

    await eventually(obeys, "its handler is there")
    asked_at_s = time.monotonic()
    await pods.delete("obedient")
    await pods.gone("obedient")
    assert time.monotonic() - asked_at_s < 10
    await printed(node, pods, "obedient", "main", "last words")


async def test_containers_begin_in_order_and_sidecars_end_after_the_main_ones(
    node: RunningNode, pods: Pods
) -> None:
    journal = [{"name": "journal", "mountPath": "/journal"}]
    note = "echo {0} >> /journal/text"

    def lasting(name: str) -> str:
        begin, end = note.format(f"{name} begins"), note.format(f"{name} ends")
        return f"trap '{end}; cat /journal/text; exit 0' TERM; {begin}; sleep infinity & wait"

    def sidecar(name: str, **fields: object) -> Resource:
        return shell(name, lasting(name), restartPolicy="Always", volumeMounts=journal, **fields)

    started = {"exec": {"command": ["grep", "outer begins", "/journal/text"]}, "periodSeconds": 1}
    pre_stop = {"exec": {"command": ["sh", "-c", note.format("inner is to end")]}}
    inner = sidecar("inner", lifecycle={"preStop": pre_stop})
    before = [shell("first", note.format("first"), volumeMounts=journal)]
    before += [sidecar("outer", startupProbe=started), inner]
    before += [shell("second", note.format("second"), volumeMounts=journal)]
    begun = {"exec": {"command": ["grep", "main begins", "/journal/text"]}, "periodSeconds": 1}
    main = shell("main", lasting("main"), readinessProbe=begun, volumeMounts=journal)
    volumes = [{"name": "journal", "emptyDir": {}}]
    await pods.create(
        pod("ordered", main, initContainers=before, volumes=volumes, terminationGracePeriodSeconds=10)
    )
    await pods.with_condition("ordered", "Ready")
    await pods.delete("ordered")
    await pods.gone("ordered")
    lines = await printed(node, pods, "ordered", "outer", "outer ends")
    lines.remove("inner is to end")  # its hook runs while main ends
    # `inner` has no startup probe, so the containers after it may begin before its first line.
    lines.remove("inner begins")
    assert lines == [
        "first",
        "outer begins",
        "second",
        "main begins",
        "main ends",
        "inner ends",
        "outer ends",
    ]


async def test_a_container_begins_when_the_post_start_hook_of_the_one_before_has_run(
    node: RunningNode, pods: Pods
) -> None:
    journal = [{"name": "journal", "mountPath": "/journal"}]
    hook = {
        "postStart": {"exec": {"command": ["sh", "-c", "sleep 0.3; echo proxy is ready >> /journal/text"]}}
    }
    proxy = shell("proxy", UNTIL_TERM, lifecycle=hook, volumeMounts=journal)
    main = shell("main", f"cat /journal/text; {UNTIL_TERM}", volumeMounts=journal)
    await pods.create(pod("held", proxy, main, volumes=[{"name": "journal", "emptyDir": {}}]))
    await printed(node, pods, "held", "main", "proxy is ready")


async def test_a_failing_init_container_keeps_the_others_from_starting(pods: Pods) -> None:
    init = [shell("init", "exit 3")]
    await pods.create(pod("blocked", shell("main", UNTIL_TERM), initContainers=init, restartPolicy="Never"))
    found = await pods.in_phase("blocked", "Failed")
    assert container_status(found, "init")["state"]["terminated"]["exitCode"] == 3
    assert "waiting" in container_status(found, "main")["state"]


async def test_a_failing_post_start_hook_ends_the_container(pods: Pods) -> None:
    wait_and_fail = ["sh", "-c", "until [ -e /listens ]; do sleep 0.05; done; false"]
    hook = {"postStart": {"exec": {"command": wait_and_fail}}}
    main = "trap 'exit 0' TERM; touch /listens; while true; do sleep 0.05; done"
    await pods.create(pod("hooked", shell("main", main, lifecycle=hook), restartPolicy="Never"))
    found = await pods.in_phase("hooked", "Succeeded")
    assert "terminated" in container_status(found, "main")["state"]


async def test_a_pod_ends_at_its_deadline(pods: Pods) -> None:
    await pods.create(pod("late", shell("main", UNTIL_TERM), activeDeadlineSeconds=1))
    assert (await pods.in_phase("late", "Failed"))["status"]["reason"] == "DeadlineExceeded"

    async def ended() -> bool:
        return processes_of("late") == []

    await eventually(ended, "its processes are killed")


async def test_a_pod_that_is_deleted_without_grace_leaves_no_process(api: KubernetesApi, pods: Pods) -> None:
    await pods.create(pod("forced", shell("main", "trap '' TERM; while true; do sleep 0.1; done")))
    await pods.with_condition("forced", "Ready")
    await api.delete(f"{pods.path}/forced", {"gracePeriodSeconds": 0})

    async def ended() -> bool:
        return processes_of("forced") == []

    await eventually(ended, "its processes are killed")
