"""Host names in resources and in the mesh, and the namespaces that see a resource."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Generic, TypeVar

from controlplane.resources.hosts import covers

# The port of URIs without a port, and of VirtualServices for hosts that no service declares.
HTTP_PORT: Final = 80

ValueT = TypeVar("ValueT")


def service_hostname(name: str, namespace: str, dns_domain: str) -> str:
    """The host name of a Kubernetes Service."""
    return f"{name}.{namespace}.svc.{dns_domain}"


def resolve_short_name(host: str, namespace: str, dns_domain: str) -> str:
    """Istio's rule: a name without dots is a Service of the resource's own namespace; any other name is
    unchanged."""
    if "." in host or ":" in host or host.startswith("*"):
        return host
    return service_hostname(host, namespace, dns_domain)


class HostIndex(Generic[ValueT]):
    """Finds the value of the most specific pattern for a host. If a pattern has several values, the first one
    is used."""

    def __init__(self, entries: Iterable[tuple[str, ValueT]]) -> None:
        self._exact: dict[str, ValueT] = {}
        for pattern, value in entries:
            self._exact.setdefault(pattern, value)
        wildcards = [pattern for pattern in self._exact if pattern.startswith("*")]
        self._wildcards = sorted(wildcards, key=len, reverse=True)

    def find(self, hostname: str) -> ValueT | None:
        if hostname in self._exact:
            return self._exact[hostname]
        pattern = next((pattern for pattern in self._wildcards if covers(pattern, hostname)), None)
        return None if pattern is None else self._exact[pattern]


def exported_to(export_to: Sequence[str], owner: str, namespace: str) -> bool:
    """Istio's ``exportTo``: empty means everywhere, ``.`` the owner's namespace, ``~`` nowhere."""
    if not export_to or "*" in export_to:
        return True
    return namespace in export_to or ("." in export_to and owner == namespace)


def export_rank(export_to: Sequence[str], owner: str, namespace: str) -> int:
    """Istio's order of the resources that a namespace sees, for one host: resources of its own with a narrow
    export (0), resources exported to it by name (1), resources exported to all (2)."""
    if not export_to or "*" in export_to:
        return 2
    return 0 if owner == namespace else 1


def export_scopes(export_to: Sequence[str], owner: str) -> frozenset[str]:
    """The namespaces for which `exported_to` is true; ``*`` means all."""
    if not export_to or "*" in export_to:
        return frozenset({"*"})
    return frozenset(owner if scope == "." else scope for scope in export_to if scope != "~")
