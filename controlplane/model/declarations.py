"""Selects the declarations of a host that count for the clients of a namespace."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.model.hosts import export_rank, exported_to
from controlplane.model.service import Service


def declarations_for(namespace: str, declarations: Iterable[Service]) -> tuple[Service, ...]:
    """The declarations of one host that a namespace sees: the first one (by `export_rank`, then by
    seniority), and those of the same owner that add ports to it. Other owners cannot add to a host."""
    seen = sorted(
        (each for each in declarations if exported_to(each.export_to, each.namespace, namespace)),
        key=lambda each: (export_rank(each.export_to, each.namespace, namespace), each.seniority),
    )
    found: list[Service] = []
    taken: set[int] = set()
    for each in seen:
        numbers = {port.number for port in each.ports}
        if not found or (each.namespace == found[0].namespace and numbers and numbers.isdisjoint(taken)):
            found.append(each)
            taken |= numbers
    return tuple(found)
