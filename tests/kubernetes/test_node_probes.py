"""Probes and readiness gates."""

from __future__ import annotations

import signal

import pytest

from tests.support.kubernetes_api import KubernetesApi, eventually
from tests.support.pod_specs import (
    UNTIL_TERM,
    Pods,
    catches,
    condition,
    container_status,
    pod,
    shell,
    signal_first_process,
)

pytestmark = pytest.mark.needs_node

TOUCH_AND_REMOVE = "trap 'touch /flag' USR1; trap 'rm /flag' USR2; while true; do sleep 0.05; done"


async def test_a_pod_is_ready_while_its_readiness_probe_succeeds(pods: Pods) -> None:
    probe = {"exec": {"command": ["test", "-e", "/flag"]}, "periodSeconds": 1, "failureThreshold": 1}
    await pods.create(pod("probed", shell("main", TOUCH_AND_REMOVE, readinessProbe=probe)))
    unready = await pods.with_condition("probed", "Ready", "False")
    assert condition(unready, "Ready")["message"] == "containers with unready status: [main]"
    await pods.in_phase("probed", "Running")

    async def listens() -> bool:
        return catches("probed", signal.SIGUSR2)

    await eventually(listens, "its handlers are there")
    signal_first_process("probed", signal.SIGUSR1)
    await pods.with_condition("probed", "Ready")
    signal_first_process("probed", signal.SIGUSR2)
    await pods.with_condition("probed", "Ready", "False")
    assert container_status(await pods.get("probed"), "main")["restartCount"] == 0


async def test_a_failing_liveness_probe_restarts_the_container(pods: Pods) -> None:
    probe = {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1}
    await pods.create(pod("dead", shell("main", UNTIL_TERM, livenessProbe=probe)))

    async def restarted() -> bool:
        return bool(container_status(await pods.get("dead"), "main").get("restartCount"))

    await eventually(restarted, "the container is restarted")


async def test_a_readiness_gate_is_waited_for(api: KubernetesApi, pods: Pods) -> None:
    gates = [{"conditionType": "example.org/registered"}]
    await pods.create(pod("gated", shell("main", UNTIL_TERM), readinessGates=gates))
    found = await pods.with_condition("gated", "ContainersReady")
    assert condition(found, "Ready")["reason"] == "ReadinessGatesNotReady"
    opened = {"type": "example.org/registered", "status": "True"}
    conditions = [*found["status"]["conditions"], opened]
    await api.patch(f"{pods.path}/gated/status", {"status": {"conditions": conditions}})
    found = await pods.with_condition("gated", "Ready")
    assert condition(found, "example.org/registered")["status"] == "True"
