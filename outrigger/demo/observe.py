"""What the demo looks at: the same admin endpoints and debug API that an operator would ask."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

POLL_INTERVAL_S = 0.05

_SAMPLE = re.compile(r"^istio_requests_total\{(.*)\} (\d+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

RouteShares = list[dict[str, int]]
"""Of each route of a virtual host, in order: the weight of each subset."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A kind of request that a sidecar took in: who proved to have sent it, and how it was secured."""

    source_principal: str
    destination: str
    security: str


async def hops(client: httpx.AsyncClient, admin_port: int, service: str) -> Counter[Hop]:
    """The requests that the sidecar of one of `service`'s pods took in, by hop."""
    return read_hops((await client.get(f"http://127.0.0.1:{admin_port}/stats/prometheus")).text, service)


def read_hops(text: str, service: str) -> Counter[Hop]:
    """The same, from a sidecar's metrics."""
    counts: Counter[Hop] = Counter()
    for inner, value in _SAMPLE.findall(text):
        labels = dict(_LABEL.findall(inner))
        if labels["reporter"] == "destination":
            hop = Hop(labels["source_principal"], service, labels["connection_security_policy"])
            counts[hop] += int(value)
    return counts


async def ejected(client: httpx.AsyncClient, admin_port: int) -> set[int]:
    """The ports of the hosts that this sidecar's outlier detection has taken out."""
    answer = await client.get(f"http://127.0.0.1:{admin_port}/clusters?format=json")
    ports = set()
    for cluster in answer.json().get("cluster_statuses", []):
        for host in cluster.get("host_statuses", []):
            if host.get("health_status", {}).get("failed_outlier_check"):
                ports.add(int(host["address"]["socket_address"]["port_value"]))
    return ports


async def route_shares(client: httpx.AsyncClient, admin_port: int, hostname: str) -> RouteShares:
    """Where this sidecar would send the requests for a host, read from its configuration dump."""
    answer = await client.get(f"http://127.0.0.1:{admin_port}/config_dump?resource=dynamic_route_configs")
    shares: RouteShares = []
    for dumped in answer.json().get("configs", []):
        for virtual_host in dumped.get("route_config", {}).get("virtual_hosts", []):
            if hostname in virtual_host["domains"]:
                shares += [_shares(route["route"]) for route in virtual_host["routes"] if _forwards(route)]
    return shares


def _forwards(route: dict[str, Any]) -> bool:
    """Tunnels have routes of their own, before those of requests."""
    return "route" in route and "connect_matcher" not in route["match"]


def _shares(action: dict[str, Any]) -> dict[str, int]:
    """Subset to weight; a cluster's name is ``outbound|port|subset|host``."""
    if "weighted_clusters" in action:
        clusters = [(c["name"], c["weight"]) for c in action["weighted_clusters"]["clusters"]]
    else:
        clusters = [(action.get("cluster", ""), 100)]
    return {name.split("|")[2]: int(weight) for name, weight in clusters if name.count("|") == 3}


async def statuses(client: httpx.AsyncClient, debug_port: int) -> list[dict[str, Any]]:
    """Every resource that the control plane knows: applied or quarantined, and why."""
    answer = await client.get(f"http://127.0.0.1:{debug_port}/debug/statusz")
    resources: list[dict[str, Any]] = answer.json()["resources"]
    return resources


async def connected_proxies(client: httpx.AsyncClient, debug_port: int) -> set[str]:
    """The ids of the proxies that follow the control plane at this moment."""
    answer = await client.get(f"http://127.0.0.1:{debug_port}/debug/syncz")
    return {str(proxy["proxy"]) for proxy in answer.json()}


async def until(what: str, condition: Callable[[], Awaitable[bool]], *, deadline_s: float) -> None:
    """Waits for a condition of another process, which can only be polled. Raises `TimeoutError`."""
    try:
        async with asyncio.timeout(deadline_s):
            while not await _holds(condition):
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise TimeoutError(f"{what}: not within {deadline_s:g} s") from None


async def _holds(condition: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await condition()
    except httpx.TransportError:
        return False
