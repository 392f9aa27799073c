"""The number of this node on the machine, and the leftovers of dead nodes.

A node has a number. It names the node's network namespace and its link on the machine's side, `orn-7`,
the namespaces of its pods, `orn-7-<uid>`, and its subnet, 10.244.7.0/24. The process that uses a number holds
a lock, which the kernel releases when the process ends. Links and namespaces whose number has no lock are
leftovers.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

from tests.support.node_agent.commands import run

NODES = [f"orn-{number}" for number in range(256)]
SUBNETS = IPv4Network("10.244.0.0/16")
NAMESPACES = Path("/var/run/netns")  # where iproute2 keeps the names


class NoSubnetError(Exception):
    """All of the nodes' subnets are in use on this machine."""


class Claim:
    """A node's name and subnet, ours until it is released."""

    def __init__(self, node: str, lock: socket.socket) -> None:
        self.node = node
        self.subnet = subnet_of(node)
        self._lock = lock

    def release(self) -> None:
        self._lock.close()


def subnet_of(node: str) -> IPv4Network:
    return IPv4Network(f"10.244.{number_of(node)}.0/24")


def node_of(subnet: IPv4Network) -> str:
    return f"orn-{subnet.network_address.packed[2]}"


def number_of(node: str) -> int:
    return int(node.removeprefix("orn-"))


async def claim_node() -> Claim:
    """Takes a free number, after it has removed the leftovers of dead nodes. Raises NoSubnetError."""
    await remove_leftovers()
    taken = await routed_networks()
    for node in NODES:
        if any(subnet_of(node).overlaps(network) for network in taken):
            continue
        if claim := try_to_claim(node):
            await remove_node(node)  # it may have died since
            return claim
    raise NoSubnetError(f"every /24 of {SUBNETS} is routed elsewhere or held by another node")


def try_to_claim(node: str) -> Claim | None:
    """None where a living process holds it."""
    lock = socket.socket(socket.AF_UNIX)
    try:
        # An abstract name (unix(7)): it belongs to the machine's network namespace, as the links do.
        lock.bind(f"\0{node}")
    except OSError as error:
        lock.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return Claim(node, lock)


async def routed_networks() -> list[IPv4Network]:
    """The networks of the machine's routes within the nodes' subnets. A wider route, such as the default
    route or a VPN's, does not count: the machine uses the most specific one."""
    routes = json.loads(await run("ip", "-4", "-json", "route", "show", "table", "all"))
    networks = [IPv4Network(route["dst"]) for route in routes if route["dst"] != "default"]
    return [network for network in networks if network.subnet_of(SUBNETS)]


async def remove_leftovers() -> None:
    present = {name for _, name in socket.if_nameindex()} | set(namespaces())
    for node in NODES:
        if any(name == node or name.startswith(f"{node}-") for name in present) and (
            claim := try_to_claim(node)
        ):
            try:
                await remove_node(node)
            finally:
                claim.release()


async def remove_node(node: str) -> None:
    """Removes its link and the namespaces of its pods, as far as they exist."""
    # The link first: the kernel removes it with the node's namespace, but later.
    if any(name == node for _, name in socket.if_nameindex()):
        await run("ip", "link", "delete", node)
    for name in namespaces():
        if name == node or name.startswith(f"{node}-"):
            await remove_namespace(name)


def namespaces() -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(path.name for path in NAMESPACES.iterdir())
    return []


async def remove_namespace(name: str) -> None:
    """Kills its processes first, until there is none: the namespace exists as long as they do."""
    while pids := (await run("ip", "netns", "pids", name)).split():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    await run("ip", "netns", "delete", name)
