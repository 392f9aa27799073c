"""The last good version of a resource whose newest one is quarantined, as it is kept outside of the process.

What is in force must follow from what is stored: a control plane that has just started, and every replica,
decides as the one that saw the good version did.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.resources.resource import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class LastGood:
    """``generation`` and ``uid`` are those of the version in its cluster, 0 and empty in a folder, where
    ``file`` is the one that had it. ``faulty_generation`` is the newest that was quarantined when this was
    written. ``since``: when the first of those was seen (RFC 3339)."""

    resource: Resource
    since: str
    uid: str = ""
    generation: int = 0
    faulty_generation: int = 0
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """What is kept cannot be used, be it damaged or no longer valid; ``reason`` says why."""

    reason: str
