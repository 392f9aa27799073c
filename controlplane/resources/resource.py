"""A valid document, once it has been read."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.resources.base import Message
from controlplane.resources.metadata import Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """``kind`` is the kind's name; ``spec`` is of the model that the kind declares."""

    kind: str
    metadata: Metadata
    spec: Message
