"""The state of a resource, as text: for logs, the debug API and the operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from controlplane.model.snapshot import ResourceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a resource was read: a file, and the line where its document starts (0: the whole file); or a
    cluster, with the ``metadata.generation`` and ``metadata.uid`` of the object."""

    file: str
    line: int = 0
    generation: int | None = None
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


# The kind in the key of a file, which has the faults that belong to no resource.
FILE = "File"


class State(Enum):
    APPLIED = "APPLIED"
    QUARANTINED = "QUARANTINED"


class Fault(Enum):
    """Why the newest version of a resource is not in force. The reasons are those of Kubernetes' Gateway API
    where it has them."""

    INVALID = "Invalid"
    CONFLICTED = "Conflicted"
    UNSUPPORTED = "Unsupported"  # of a kind that is not supported


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStatus:
    """``in_force`` means that a version is in force; for a quarantined resource, this is the last good one.
    ``unresolved`` are the destinations of the version in force that do not exist. ``generation`` is that of
    the cluster; in a folder it counts the versions that were read. While an older version is in force,
    ``since`` is the time at which that began (RFC 3339), and ``serving_generation`` is that version's
    generation in a cluster."""

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
        """The consequence of a quarantine."""
        return "the last good version stays in force" if self.in_force else "it is not in force"

    @property
    def lasting_consequence(self) -> str:
        """The consequence, and the time since which an older version is in force."""
        if not self.since:
            return self.consequence
        generation = f"generation {self.serving_generation}, " if self.serving_generation else ""
        return f"{self.consequence} ({generation}since {self.since})"

    def __str__(self) -> str:
        reasons = "; ".join(self.reasons)
        if self.key.kind == FILE:
            return f"{self.key} is faulty; its resources in force stay in force: {reasons}"
        if self.state is State.APPLIED:
            return f"{self.key} ({self.origin}) applied"
        return f"{self.key} ({self.origin}) quarantined, {self.consequence}: {reasons}"
