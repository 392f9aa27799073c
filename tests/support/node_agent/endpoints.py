"""The addresses in a Service's EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.following import Key

SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One of `discovery.k8s.io/v1`, with the ports of its slice: by name and protocol."""

    address: str
    hostname: str | None
    ready: bool
    serving: bool
    terminating: bool
    ports: dict[tuple[str, str], int]


def endpoints_by_service(slices: Iterable[Resource]) -> dict[Key, list[Endpoint]]:
    """IPv4 only; in the order of their addresses."""
    found: dict[Key, list[Endpoint]] = {}
    for slice_ in slices:
        metadata = slice_["metadata"]
        service = metadata.get("labels", {}).get(SERVICE_LABEL)
        if service is not None and slice_["addressType"] == "IPv4":
            found.setdefault((metadata["namespace"], service), []).extend(endpoints_of(slice_))
    return {service: sorted(endpoints, key=lambda each: each.address) for service, endpoints in found.items()}


def endpoints_of(slice_: Resource) -> list[Endpoint]:
    ports = {
        (port.get("name") or "", port.get("protocol", "TCP")): port["port"]
        for port in slice_.get("ports") or []
        if port.get("port")
    }
    return [endpoint(one, ports) for one in slice_["endpoints"] or []]


def endpoint(one: Resource, ports: dict[tuple[str, str], int]) -> Endpoint:
    """Missing conditions have the API's defaults: ready, serving if ready, not terminating."""
    conditions = {name: value for name, value in one.get("conditions", {}).items() if value is not None}
    ready = conditions.get("ready", True)
    return Endpoint(
        address=one["addresses"][0],
        hostname=one.get("hostname"),
        ready=ready,
        serving=conditions.get("serving", ready),
        terminating=conditions.get("terminating", False),
        ports=ports,
    )


def usable(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Those that get connections: the ready ones, or where none is, those that serve until they end."""
    known = list(endpoints)
    ready = [each for each in known if each.ready]
    return ready or [each for each in known if each.serving and each.terminating]
