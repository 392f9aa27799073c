"""Limits of memory and CPU, where the machine's cgroups allow them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.node import RunningNode
from tests.support.node_agent.cgroups import NO_GROUP, ROOT, Cgroups, Limits
from tests.support.pod_specs import Pods, container_status, pod, printed, shell

pytestmark = pytest.mark.needs_node

MEMORY = {"limits": {"memory": "32Mi"}, "requests": {"memory": "16Mi"}}
EAT = "x = bytearray(200 << 20); print('ate')"


@pytest.fixture(autouse=True)
def machine_with_cgroups() -> None:
    cgroups = Cgroups("outrigger-limits-test")
    try:
        group = cgroups.group("probe", Limits(memory_bytes=32 << 20, cpu_quota_us=50_000))
        if group == NO_GROUP:
            pytest.skip(f"{ROOT}: no cgroups with memory and cpu for us")
        group.remove()
    finally:
        cgroups.remove()


async def test_a_container_that_uses_more_memory_than_its_limit_is_killed(
    node: RunningNode, pods: Pods
) -> None:
    main = {"name": "main", "image": "python", "args": ["-c", EAT], "resources": MEMORY}
    await pods.create(pod("greedy", main, restartPolicy="Never"))
    found = container_status(await pods.in_phase("greedy", "Failed"), "main")
    ended = found["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    assert found["resources"] == MEMORY


async def test_a_container_is_in_the_cgroup_of_its_cpu_limit_until_it_ends(
    node: RunningNode, pods: Pods
) -> None:
    main = shell("main", "cat /proc/self/cgroup", resources={"limits": {"cpu": "500m"}})
    await pods.create(pod("slow", main, restartPolicy="Never"))
    uid = (await pods.in_phase("slow", "Succeeded"))["metadata"]["uid"]
    lines = await printed(node, pods, "slow", "main", uid)
    (path,) = {line.rpartition(":")[2] for line in lines if uid in line}
    assert path.endswith(f"/{uid}-main")
    assert not list(Path(ROOT).glob(f"*/*/{uid}-main"))
