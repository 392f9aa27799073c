"""The network of one node's pods.

The node has a separate network namespace. In it are a bridge, with each pod's namespace on it, and the
node's routes and NAT; one link leads from it to the machine. The machine gets this link and a route to it,
and no other change. Pods of two nodes reach each other only if the nodes are connected. No packet leaves the
machine: a node forwards to its own subnet and to connected nodes, and rejects the rest.

    machine -- orn-7 [10.244.7.1] -- uplink [10.244.7.2] the node -- bridge `pods` -- eth0 of each pod
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.node_agent.addresses import AddressPool
from tests.support.node_agent.claims import (
    NAMESPACES,
    Claim,
    claim_node,
    namespaces,
    node_of,
    number_of,
    remove_namespace,
    remove_node,
)
from tests.support.node_agent.commands import run
from tests.support.node_agent.netns import within

BRIDGE = "pods"
PEER_PREFIX = "to-"
SWITCHES = f"""
cd /proc/sys/net
echo 1 > ipv4/ip_forward
# Two pods on the bridge speak by way of the node all the same, for its NAT to see both directions.
echo 0 > ipv4/conf/all/send_redirects
echo 0 > ipv4/conf/{BRIDGE}/send_redirects
# It would translate addresses on the bridge itself, which delivers nothing to where it came from:
# no pod could reach itself by its Service.
if [ -d bridge ]; then echo 0 > bridge/bridge-nf-call-iptables; fi
"""
# As containerd sets them in a pod: a process without capabilities listens on port 80, and sends pings.
POD_SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}
FILTER = """\
*filter
-A FORWARD -d {subnet} -j ACCEPT
-A FORWARD -o {peers}+ -j ACCEPT
-A FORWARD -j REJECT
COMMIT
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodInterface:
    """A pod's part of the network: its namespace's name (for `ip netns exec`), and its IPv4 address."""

    namespace: str
    address: str


class PodNetwork:
    """Used as `async with PodNetwork() as network`. At the end nothing of it is left, nor of its pods."""

    def __init__(self) -> None:
        self._claim: Claim
        self._addresses: AddressPool
        self._interfaces: dict[str, PodInterface] = {}

    async def __aenter__(self) -> Self:
        self._claim = await claim_node()
        self._addresses = AddressPool(self._claim.subnet)
        try:
            await self._build_node()
        except BaseException:
            await self._remove()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._remove()

    @property
    def subnet(self) -> IPv4Network:
        """Of the pods."""
        return self._claim.subnet

    @property
    def node_address(self) -> str:
        """The machine's own address (IPv4) on the way to the pods: processes that run on the machine may bind
        it, and pods reach them there. It is the node's InternalIP, and a pod's hostIP."""
        return self._addresses.host

    async def attach(self, pod_uid: str, sysctls: Mapping[str, str] | None = None) -> PodInterface:
        """Gives the pod a namespace with `lo`, `eth0`, an address, and a route to everything; the same again
        if it has one. One that failed, or was cancelled, is undone by `detach`. The settings of its kernel
        have names such as `net.ipv4.ip_forward`.

        Raises CommandError, and IndexError when the subnet is used up.
        """
        if pod_uid in self._interfaces:
            return self._interfaces[pod_uid]
        address = self._addresses.take()
        interface = PodInterface(namespace=f"{self._claim.node}-{pod_uid}", address=address)
        self._interfaces[pod_uid] = interface
        await self._build_pod(interface)
        settings = POD_SYSCTLS | dict(sysctls or {})
        await within(NAMESPACES / interface.namespace, lambda: set_sysctls(settings))
        return interface

    async def detach(self, pod_uid: str) -> None:
        """Removes the pod's namespace, and kills its remaining processes. Has no effect for an unknown
        pod."""
        interface = self._interfaces.get(pod_uid)
        if interface is None:
            return
        if interface.namespace in namespaces():
            await remove_namespace(interface.namespace)
        del self._interfaces[pod_uid]
        self._addresses.give_back(interface.address)

    async def translate(self, rules: str) -> None:
        """Replaces the node's NAT rules as a whole (iptables-restore(8), its table `nat`)."""
        await run("ip", "netns", "exec", self._claim.node, "iptables-restore", text=rules)

    async def connect(self, other: IPv4Network) -> None:
        """Connects this node with another node of the machine, given by its subnet, so that their pods reach
        each other. The link goes with the node that ends first. No effect where it is there.

        One of the two makes it, the one with the higher number, so that they need not agree.
        """
        mine, theirs = self._claim.node, node_of(other)
        if number_of(mine) <= number_of(theirs) or theirs not in namespaces():
            return
        here, there = f"{PEER_PREFIX}{theirs}", f"{PEER_PREFIX}{mine}"
        links = await within(NAMESPACES / mine, socket.if_nameindex)
        if any(name == here for _, name in links):
            return
        await ip(f"link add {here} netns {mine} type veth peer name {there} netns {theirs}")
        router = AddressPool(other).router
        for node, link, subnet, gateway in (
            (mine, here, other, router),
            (theirs, there, self._claim.subnet, self._addresses.router),
        ):
            await ip(
                f"link set {link} up",
                f"route add {subnet} via {gateway} dev {link} onlink",
                namespace=node,
            )

    async def _build_node(self) -> None:
        node, host, router = self._claim.node, self._addresses.host, self._addresses.router
        await ip(
            f"netns add {node}",
            f"link add {node} type veth peer name uplink netns {node}",
            f"address add {host} peer {router} dev {node}",
            f"link set {node} up",
            f"route add {self._claim.subnet} via {router}",
        )
        await ip(
            "link set lo up",
            f"address add {router} peer {host} dev uplink",
            "link set uplink up",
            f"link add {BRIDGE} type bridge",
            f"link set {BRIDGE} up",
            f"route add {self._claim.subnet} dev {BRIDGE} src {router}",
            # For all else: it comes to the rule that rejects it, as if a port were closed.
            f"route add default via {host}",
            namespace=node,
        )
        await run("ip", "netns", "exec", node, "sh", "-e", text=SWITCHES)
        await run(
            "ip",
            "netns",
            "exec",
            node,
            "iptables-restore",
            text=FILTER.format(subnet=self._claim.subnet, peers=PEER_PREFIX),
        )

    async def _build_pod(self, interface: PodInterface) -> None:
        node, router = self._claim.node, self._addresses.router
        port = f"pod{interface.address.rpartition('.')[2]}"
        await ip(
            f"netns add {interface.namespace}",
            f"link add eth0 netns {interface.namespace} type veth peer name {port} netns {node}",
        )
        await ip(f"link set {port} master {BRIDGE} up", namespace=node)
        await ip(
            "link set lo up",
            "link set eth0 up",
            # No neighbours: its packets to other pods go through the node.
            f"address add {interface.address}/32 dev eth0",
            f"route add {router} dev eth0",
            f"route add default via {router}",
            namespace=interface.namespace,
        )

    async def _remove(self) -> None:
        try:
            await remove_node(self._claim.node)
        finally:
            self._claim.release()


def set_sysctls(settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        Path("/proc/sys", name.replace(".", "/")).write_text(value)


async def ip(*commands: str, namespace: str | None = None) -> None:
    """One process for all of them: a test attaches dozens of pods."""
    inside = [] if namespace is None else ["-netns", namespace]
    await run("ip", *inside, "-batch", "-", text="\n".join([*commands, ""]))
