"""What became of a resource, in words: for logs, the debug API and the operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from controlplane.model.snapshot import ResourceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a resource was read: a file, and the line where its document starts (0: the whole file); or a
    cluster, and the ``metadata.generation`` and ``metadata.uid`` of what was read there."""

    file: str
    line: int = 0
    generation: int | None = None
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


# The kind of key under which a file has the faults that belong to no resource.
FILE = "File"


class State(Enum):
    APPLIED = "APPLIED"
    QUARANTINED = "QUARANTINED"


class Fault(Enum):
    """Why the newest version of a resource is not in force; the words that Kubernetes' Gateway API has for
    it, where it has one."""

    INVALID = "Invalid"
    CONFLICTED = "Conflicted"
    UNSUPPORTED = "Unsupported"  # of a kind that nobody reads


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStatus:
    """``in_force``: a version of it serves, which for a quarantined one is the last good version.
    ``unresolved`` are the destinations that are not there, of the version in force.
    ``generation`` is its cluster's; in a folder it counts the versions that were read. While an older version
    serves, ``since`` says since when (RFC 3339), and ``serving_generation`` which generation it is, in a
    cluster."""

    key: ResourceKey
    state: State
    origin: Origin
    generation: int
    in_force: bool
    fault: Fault | None = None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()
    serving_generation: int = 0
    since: str = ""

    @property
    def consequence(self) -> str:
        """Of a quarantine."""
        return "the last good version stays in force" if self.in_force else "it is not in force"

    @property
    def lasting_consequence(self) -> str:
        """The same, and since when an older version serves."""
        if not self.since:
            return self.consequence
        generation = f"generation {self.serving_generation}, " if self.serving_generation else ""
        return f"{self.consequence} ({generation}since {self.since})"

    def __str__(self) -> str:
        reasons = "; ".join(self.reasons)
        if self.key.kind == FILE:
            return f"{self.key} is faulty; its resources that are in force stay so: {reasons}"
        if self.state is State.APPLIED:
            return f"{self.key} ({self.origin}) applied"
        return f"{self.key} ({self.origin}) quarantined, {self.consequence}: {reasons}"
