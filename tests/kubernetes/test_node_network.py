"""The network of a node's pods: reachable pods, and leftovers at the end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.node_agent.claims import NAMESPACES
from tests.support.node_agent.network import PodNetwork
from tests.support.pod_processes import ECHO_PORT, call, echo, start_sleeper

pytestmark = pytest.mark.needs_node

ROOT = Path(__file__).parents[2]
# A node that is killed: it tells its name, and never ends by itself.
VICTIM = """
import asyncio
from tests.support.node_agent.network import PodNetwork
from tests.support.pod_processes import start_sleeper

async def main():
    async with PodNetwork() as network:
        pod = await network.attach("victim")
        sleeper = await start_sleeper(pod)
        print(pod.namespace, pod.address, sleeper.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def network() -> AsyncIterator[PodNetwork]:
    async with PodNetwork() as network:
        yield network


async def test_pods_reach_each_other_by_their_own_addresses(network: PodNetwork) -> None:
    one, other = await network.attach("one"), await network.attach("other")
    async with echo(one, "one"):
        assert await call(other, one.address) == [f"one saw {other.address}"]
        assert await call(other, one.address, kind="SOCK_DGRAM") == [f"one saw {other.address}"]
        assert await call(one, one.address) == [f"one saw {one.address}"]


async def test_the_machine_reaches_pods_and_pods_the_machine(network: PodNetwork) -> None:
    pod = await network.attach("pod")
    async with echo(pod, "pod"):
        reader, writer = await asyncio.open_connection(pod.address, ECHO_PORT)
        assert await reader.read() == f"pod saw {network.node_address}".encode()
        writer.close()
        await writer.wait_closed()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"machine saw {writer.get_extra_info('peername')[0]}".encode())
        writer.close()

    async with await asyncio.start_server(greet, network.node_address, 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await call(pod, network.node_address, port) == [f"machine saw {pod.address}"]


async def test_nothing_leaves_the_machine(network: PodNetwork) -> None:
    pod = await network.attach("pod")
    assert await call(pod, "192.0.2.1", 80) == ["ConnectionRefusedError at once"]  # RFC 5737: documentation


async def test_nodes_have_subnets_of_their_own_and_do_not_meet(network: PodNetwork) -> None:
    async with PodNetwork() as another:
        here, there = await network.attach("pod"), await another.attach("pod")
        assert here.address.rpartition(".")[0] != there.address.rpartition(".")[0]
        async with echo(here, "here"):
            assert await call(there, here.address) == ["ConnectionRefusedError at once"]


async def test_new_rules_disturb_no_connection(network: PodNetwork) -> None:
    server, caller = await network.attach("server"), await network.attach("caller")
    target = f"-j DNAT --to-destination {server.address}:{ECHO_PORT}"
    rules = f"*nat\n-A PREROUTING -d 10.96.0.9 -p tcp --dport 80 {target}\nCOMMIT\n"
    async with echo(server, "server"):
        await network.translate(rules)
        calls = asyncio.create_task(call(caller, "10.96.0.9", 80, times=1000))
        while not calls.done():
            await network.translate(rules)
        assert set(await calls) == {f"server saw {caller.address}"}


async def test_pods_attach_together(network: PodNetwork) -> None:
    pods = await asyncio.gather(*(network.attach(f"pod-{number}") for number in range(30)))
    assert len({pod.address for pod in pods}) == len(pods)
    async with echo(pods[0], "first"):
        answers = await asyncio.gather(*(call(pod, pods[0].address) for pod in pods[-3:]))
    assert answers == [[f"first saw {pod.address}"] for pod in pods[-3:]]


async def test_attaching_a_pod_again_returns_the_same_network(network: PodNetwork) -> None:
    assert await network.attach("pod") == await network.attach("pod")


async def test_a_detached_pod_has_no_processes(network: PodNetwork) -> None:
    pod = await network.attach("pod")
    process = await start_sleeper(pod)
    await network.detach("pod")
    assert await process.wait() == -signal.SIGKILL
    assert not (NAMESPACES / pod.namespace).exists()
    await network.detach("pod")  # a second time has no effect


async def test_an_address_is_not_given_again_at_once(network: PodNetwork) -> None:
    first = await network.attach("first")
    await network.detach("first")
    assert (await network.attach("second")).address != first.address


async def test_an_attachment_that_was_cancelled_is_undone_by_detach(network: PodNetwork) -> None:
    node = (await network.attach("first")).namespace.removesuffix("-first")
    for delay_s in (0.0, 0.001, 0.002, 0.004, 0.008):
        with suppress(TimeoutError):
            await asyncio.wait_for(network.attach("pod"), delay_s)
        await network.detach("pod")
        assert sorted(name for name in os.listdir(NAMESPACES) if name.startswith(f"{node}-")) == [
            f"{node}-first"
        ]
    async with echo(await network.attach("pod"), "pod"):
        pass


async def test_nothing_is_left_of_a_node() -> None:
    before = state_of_the_machine()
    async with PodNetwork() as network:
        pod = await network.attach("pod")
        process = await start_sleeper(pod)
        ours = pod.namespace.removesuffix("-pod")
        assert lines_about(ours, network.node_address)
    assert await process.wait() == -signal.SIGKILL
    assert not lines_about(ours, network.node_address)
    assert state_of_the_machine() == before


async def test_what_a_killed_node_left_is_removed_by_the_next() -> None:
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", VICTIM, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert victim.stdout is not None
    namespace, address, sleeper = (await victim.stdout.readline()).decode().split()

    try:
        async with PodNetwork():
            assert (NAMESPACES / namespace).exists()  # as long as it lives
    finally:
        victim.kill()
        await victim.wait()
    assert (NAMESPACES / namespace).exists()

    async with PodNetwork() as network:
        assert not (NAMESPACES / namespace).exists()
        assert not is_running(int(sleeper))
        pod = await network.attach("pod")
        async with echo(pod, "pod"):
            assert await call(pod, pod.address) == [f"pod saw {pod.address}"]
    assert not lines_about(namespace.removesuffix("-victim"), address)


def is_running(pid: int) -> bool:
    """A zombie, which only its parent can remove, does not run."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def state_of_the_machine() -> list[str]:
    """All that a node could change outside of its own namespaces, but for nodes' own: others may run."""
    return [line for line in everything() if not re.search(r"orn-|10[.]244[.]", line)]


def lines_about(node: str, address: str) -> list[str]:
    subnet = address.rpartition(".")[0]
    return [line for line in everything() if re.search(rf"\b{node}\b|\b{re.escape(subnet)}[.]", line)]


def everything() -> list[str]:
    commands = [
        "ip -o link",
        "ip -o address",
        "ip route show table all",
        "ip netns",
        "iptables-save | grep -v '^#'; true",
        "grep -r . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf /proc/sys/net/bridge; true",
    ]
    return [line for command in commands for line in shell(command).splitlines()]


def shell(command: str) -> str:
    return subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True, check=True).stdout
