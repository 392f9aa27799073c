"""DNS messages for tests, made and read by dnspython."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.rdatatype

from sidecar.config.name_table import NameInfo, NameTable
from sidecar.dns.names import Names, Surroundings

AROUND = Surroundings("default", "svc.cluster.local", "default.svc.cluster.local")


def query(name: str, rdtype: str = "A", **options: Any) -> bytes:
    """``options``: those of `dns.message.make_query`."""
    return dns.message.make_query(name, rdtype, **options).to_wire()


def in_cluster(
    name: str, *v4: str, namespace: str = "default", v6: tuple[str, ...] = ()
) -> dict[str, NameInfo]:
    """A Service, as an entry of the table."""
    info = NameInfo(v4=v4, v6=v6, registry="Kubernetes", shortname=name, namespace=namespace)
    return {f"{name}.{namespace}.svc.cluster.local": info}


def external(host: str, *v4: str, v6: tuple[str, ...] = ()) -> dict[str, NameInfo]:
    return {host: NameInfo(v4=v4, v6=v6, registry="External")}


def names(*entries: dict[str, NameInfo], around: Surroundings = AROUND) -> Names:
    return Names(NameTable(hosts={host: info for entry in entries for host, info in entry.items()}), around)


def addresses(message: dns.message.Message) -> list[str]:
    """The addresses in an answer, in their order."""
    wanted = (dns.rdatatype.A, dns.rdatatype.AAAA)
    return [record.address for each in message.answer if each.rdtype in wanted for record in each]


def parsed(response: bytes) -> dns.message.Message:
    return dns.message.from_wire(response)


def truncated(message: dns.message.Message) -> bool:
    return bool(message.flags & dns.flags.TC)
