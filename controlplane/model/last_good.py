"""The last good version of a resource whose newest version is quarantined, as it is stored outside of the
process.

The resources in force must follow from stored state: a control plane that has just started, and every
replica, must decide like the one that saw the good version.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.resources.resource import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class LastGood:
    """``generation`` and ``uid`` are those of the version in its cluster. In a folder they are 0 and
    empty, and ``file`` is the file of the version. ``faulty_generation`` is the newest generation that was
    quarantined when this was written. ``since`` is the time at which the first of them was seen (RFC
    3339)."""

    resource: Resource
    since: str
    uid: str = ""
    generation: int = 0
    faulty_generation: int = 0
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A stored version that is damaged or no longer valid; ``reason`` says why."""

    reason: str
