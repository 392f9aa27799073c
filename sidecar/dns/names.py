"""The name table, indexed for queries. Which names lead to a host follows Istio's agent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dns.name

from protos.node import NodeId
from sidecar.config.name_table import KUBERNETES, NameInfo, NameTable

EMPTY: Final = NameTable()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """``namespace`` and ``domain`` (``svc.cluster.local``) are those of the pod, and may be empty. ``suffix``
    is the first domain of its search path, if it is inside ``domain``; or else empty.

    A client's resolver appends that domain first, to every name with few dots (``ndots:5``). As in Istio, the
    domains after it are not expanded: no client tries them once the first has an answer, and they may have
    other names."""

    namespace: str = ""
    domain: str = ""
    suffix: str = ""


def surroundings(node_id: str, search: Sequence[str]) -> Surroundings:
    """Of a node id in another format, only the search path counts."""
    suffix = search[0].lower().strip(".") if search else ""
    try:
        node = NodeId.parse(node_id)
    except ValueError:
        return Surroundings(suffix=suffix)
    domain = node.dns_domain.lower().removeprefix(f"{node.namespace}.").strip(".")
    inside = suffix == domain or suffix.endswith(f".{domain}")
    return Surroundings(node.namespace, domain, suffix if inside else "")


@dataclass(frozen=True, slots=True)
class Found:
    """``alias``: the name that owns the addresses, in wire format, if it is not the name in the question."""

    info: NameInfo
    alias: bytes = b""


class Names:
    """Immutable. Names are bytes in lower case, without the last dot."""

    __slots__ = ("_hosts", "_suffix", "_wildcards", "table")

    def __init__(self, table: NameTable, around: Surroundings) -> None:
        self.table: Final = table
        exact = {host.encode(): info for host, info in table.hosts.items()}
        self._hosts: Final = {**_short_names(table.hosts.items(), around), **exact}
        self._wildcards: Final = any(host.startswith(b"*") for host in exact)
        self._suffix: Final = f".{around.suffix}".encode() if around.suffix else b""

    def find(self, host: bytes) -> Found | None:
        info = self._look_up(host)
        if info is not None:
            return Found(info)
        if self._suffix and host.endswith(self._suffix):
            base = host[: -len(self._suffix)]
            info = self._look_up(base)
            if info is not None:
                return Found(info, dns.name.Name((*base.split(b"."), b"")).to_digestable())
        return None

    def _look_up(self, host: bytes) -> NameInfo | None:
        """The most specific wildcard counts (RFC 4592)."""
        info = self._hosts.get(host)
        if info is not None or not self._wildcards:
            return info
        dot = host.find(b".")
        while dot >= 0:
            info = self._hosts.get(b"*" + host[dot:])
            if info is not None:
                return info
            dot = host.find(b".", dot + 1)
        return None


def short_names(host: str, info: NameInfo, around: Surroundings) -> Iterator[str]:
    """The short names of a Service of the pod's own cluster: ``reviews.default``, ``reviews.default.svc``,
    and ``reviews`` in its namespace."""
    if info.registry != KUBERNETES or not around.domain or not host.endswith(f".{around.domain}"):
        return
    if info.namespace == around.namespace:
        yield info.shortname
    yield f"{info.shortname}.{info.namespace}"
    yield f"{info.shortname}.{info.namespace}.{around.domain.partition('.')[0]}"


def _short_names(hosts: Iterable[tuple[str, NameInfo]], around: Surroundings) -> Mapping[bytes, NameInfo]:
    return {name.encode(): info for host, info in hosts for name in short_names(host, info, around)}
