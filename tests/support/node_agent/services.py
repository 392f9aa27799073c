"""Like kube-proxy: connections to a Service's ClusterIP go to one of its endpoints."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.endpoints import Endpoint, endpoints_by_service, usable
from tests.support.node_agent.following import Collection, Key

API_SERVER: Key = ("default", "kubernetes")
PROTOCOLS = ("TCP", "UDP")


def translation_rules(services: Collection, slices: Collection, api_server: str) -> str:
    """The text for iptables-restore(8): the whole table `nat` of the node. The Service default/kubernetes
    leads to the API server, given as `host:port`.

    A Service without usable endpoints has no rule here, so that the node rejects what is sent to it. Sources
    are kept, but for a pod that reaches itself: it would answer itself directly, and not know the answer.
    """
    endpoints = endpoints_by_service(slices.values())
    rules: list[str] = []
    itself: set[str] = set()
    for key, service in sorted(services.items()):
        reachable = usable(endpoints.get(key, []))
        itself.update(each.address for each in reachable)
        for port in ports_of(service):
            targets = [api_server] if key == API_SERVER else targets_of(port, reachable)
            rules += forwarding(service["spec"]["clusterIP"], port, targets)
    rules += [f"-A POSTROUTING -s {address} -d {address} -j MASQUERADE" for address in sorted(itself)]
    return "\n".join(["*nat", *rules, "COMMIT", ""])


def ports_of(service: Resource) -> list[Resource]:
    """Those that are reached at a ClusterIP."""
    spec = service["spec"]
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") in {None, "", "None"}:
        return []
    return [port for port in spec.get("ports", []) if port.get("protocol", "TCP") in PROTOCOLS]


def targets_of(port: Resource, endpoints: list[Endpoint]) -> list[str]:
    """Where a Service's port leads; a slice's port has the name of the Service's."""
    name = port.get("name", ""), port.get("protocol", "TCP")
    return [f"{each.address}:{each.ports[name]}" for each in endpoints if name in each.ports]


def forwarding(cluster_ip: str, port: Resource, targets: list[str]) -> Iterator[str]:
    """A rule for each target, at equal chances: the first of three takes a third, the next half the rest."""
    protocol = port.get("protocol", "TCP").lower()
    for left, target in zip(range(len(targets), 0, -1), targets, strict=True):
        chance = f" -m statistic --mode random --probability {1 / left:.9f}" if left > 1 else ""
        yield (
            f"-A PREROUTING -d {cluster_ip} -p {protocol} --dport {port['port']}{chance}"
            f" -j DNAT --to-destination {target}"
        )
