"""A claim to something that only one resource may have, such as the routes of a host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

EVERY_NAMESPACE: Final = frozenset({"*"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Two claims to one ``subject`` conflict if the same namespaces see both. Their resources can be of
    different kinds. The first part of the subject names the kind of thing that is claimed.

    ``scopes`` are the namespaces that see the claim; ``*`` means all. A claim for all namespaces yields to a
    claim for a single namespace. In the namespace ``owner``, whose resource makes the claim, its own narrow
    claims come first. Otherwise the lowest ``order`` wins. One owner may split a subject by ``ports``.
    ``path`` is the field that makes the claim. Errors say that ``description`` is already ``verb`` by another
    resource."""

    subject: tuple[str, ...]
    scopes: frozenset[str]
    path: str
    description: str
    verb: str
    owner: str = ""
    ports: frozenset[int] = frozenset()
    order: tuple[Any, ...] = ()

    def contradicts(self, other: Claim) -> bool:
        """Whether the same namespaces see both, and neither comes first in any of them. The relation is
        symmetric: resources that are in force together stay in force, in whatever order they are resolved
        again."""
        alike = self.scopes == other.scopes and not (
            self.owner != other.owner and self.scopes & {self.owner, other.owner}
        )
        return bool(self.scopes) and alike and self.overlaps(other)

    def overlaps(self, other: Claim) -> bool:
        """Whether both claim the same part of the subject."""
        by_port = self.owner == other.owner and self.ports and other.ports
        return not (by_port and self.ports.isdisjoint(other.ports))


def namespace_wide(kind: str, namespace: str, path: str) -> Claim:
    """The claim of a resource without a selector: a namespace can have only one of its kind."""
    return Claim(
        subject=(f"namespace-wide {kind}", namespace),
        scopes=EVERY_NAMESPACE,
        path=path,
        description=f"is absent, and the namespace {namespace}",
        verb="configured",
    )
