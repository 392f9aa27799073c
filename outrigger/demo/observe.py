"""The demo's observations: it uses the same admin endpoints and debug API as an operator."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

POLL_INTERVAL_S = 0.05

_SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\d+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

RouteShares = list[dict[str, int]]
"""The weights of the subsets, for each route of a virtual host, in order."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A class of requests that a sidecar received: the authenticated caller, and how the connection was
    secured."""

    source_principal: str
    destination: str
    security: str


async def hops(client: httpx.AsyncClient, admin_port: int, service: str) -> Counter[Hop]:
    """Returns the number of requests that the sidecar of one of `service`'s pods received, by hop."""
    return read_hops((await client.get(f"http://127.0.0.1:{admin_port}/stats/prometheus")).text, service)


def read_hops(text: str, service: str) -> Counter[Hop]:
    """Reads the hops from the text of a sidecar's metrics."""
    counts: Counter[Hop] = Counter()
    for labels, count in read_requests(text):
        if labels["reporter"] == "destination":
            hop = Hop(labels["source_principal"], service, labels["connection_security_policy"])
            counts[hop] += count
    return counts


def read_requests(text: str) -> Iterator[tuple[dict[str, str], int]]:
    """Reads the labels and values of ``istio_requests_total`` from the text of a sidecar's metrics."""
    return _read(text, "istio_requests_total")


def _read(text: str, metric: str) -> Iterator[tuple[dict[str, str], int]]:
    for name, inner, value in _SAMPLE.findall(text):
        if name == metric:
            yield dict(_LABEL.findall(inner)), int(value)


@dataclass(frozen=True, slots=True)
class GrpcCalls:
    """The gRPC calls that sidecars report: by ``grpc-status``, and their messages."""

    by_status: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    responses: int = 0

    def __add__(self, other: GrpcCalls) -> GrpcCalls:
        return GrpcCalls(
            self.by_status + other.by_status,
            self.requests + other.requests,
            self.responses + other.responses,
        )


async def grpc_calls(client: httpx.AsyncClient, admin_port: int, reporter: str) -> GrpcCalls:
    """Returns the gRPC calls of a sidecar as `reporter`: ``source`` or ``destination``."""
    text = (await client.get(f"http://127.0.0.1:{admin_port}/stats/prometheus")).text
    return read_grpc_calls(text, reporter)


def read_grpc_calls(text: str, reporter: str) -> GrpcCalls:
    """Reads the gRPC calls from the text of a sidecar's metrics."""
    by_status: Counter[str] = Counter()
    for labels, count in read_requests(text):
        if labels["reporter"] == reporter and labels["request_protocol"] == "grpc":
            by_status[labels["grpc_response_status"]] += count
    requests, responses = (
        sum(count for labels, count in _read(text, metric) if labels["reporter"] == reporter)
        for metric in ("istio_request_messages_total", "istio_response_messages_total")
    )
    return GrpcCalls(by_status, requests, responses)


async def ejected(client: httpx.AsyncClient, admin_port: int) -> set[int]:
    """Returns the ports of the hosts that this sidecar's outlier detection has ejected."""
    answer = await client.get(f"http://127.0.0.1:{admin_port}/clusters?format=json")
    ports = set()
    for cluster in answer.json().get("cluster_statuses", []):
        for host in cluster.get("host_statuses", []):
            if host.get("health_status", {}).get("failed_outlier_check"):
                ports.add(int(host["address"]["socket_address"]["port_value"]))
    return ports


async def route_shares(client: httpx.AsyncClient, admin_port: int, hostname: str) -> RouteShares:
    """Returns this sidecar's routes for a host, read from its configuration dump."""
    answer = await client.get(f"http://127.0.0.1:{admin_port}/config_dump?resource=dynamic_route_configs")
    shares: RouteShares = []
    for dumped in answer.json().get("configs", []):
        for virtual_host in dumped.get("route_config", {}).get("virtual_hosts", []):
            if hostname in virtual_host["domains"]:
                shares += [_shares(route["route"]) for route in virtual_host["routes"] if _forwards(route)]
    return shares


def _forwards(route: dict[str, Any]) -> bool:
    """Whether the route forwards requests. CONNECT tunnels have separate routes before those."""
    return "route" in route and "connect_matcher" not in route["match"]


def _shares(action: dict[str, Any]) -> dict[str, int]:
    """Returns the weight of each subset. A cluster's name is ``outbound|port|subset|host``."""
    if "weighted_clusters" in action:
        clusters = [(c["name"], c["weight"]) for c in action["weighted_clusters"]["clusters"]]
    else:
        clusters = [(action.get("cluster", ""), 100)]
    return {name.split("|")[2]: int(weight) for name, weight in clusters if name.count("|") == 3}


async def statuses(client: httpx.AsyncClient, debug_port: int) -> list[dict[str, Any]]:
    """Returns the status of every resource that the control plane knows."""
    answer = await client.get(f"http://127.0.0.1:{debug_port}/debug/statusz")
    resources: list[dict[str, Any]] = answer.json()["resources"]
    return resources


async def connected_proxies(client: httpx.AsyncClient, debug_port: int) -> set[str]:
    """Returns the ids of the proxies that are connected to the control plane now."""
    answer = await client.get(f"http://127.0.0.1:{debug_port}/debug/syncz")
    return {str(proxy["proxy"]) for proxy in answer.json()}


async def until(what: str, condition: Callable[[], Awaitable[bool]], *, deadline_s: float) -> None:
    """Polls until a condition of another process is true. Raises `TimeoutError`."""
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
