"""The fields of a message that a decoder supports. Each decoder declares those of the messages that it reads.

A field that is set and not declared is refused by its path. Well-known types (durations, wrappers, structs)
need no declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Support:
    """``fields`` are read by the decoder. ``without_effect`` maps a field that is accepted and not read to
    the reason: requests get the same answers with the field and without it."""

    fields: frozenset[str]
    without_effect: Mapping[str, str] = field(default_factory=dict)


SupportTable: TypeAlias = Mapping[str, Support]
"""By the full name of the message."""


def support(fields: str = "", **without_effect: str) -> Support:
    """``fields`` are separated by spaces; each keyword is a field without effect, and its reason."""
    return Support(frozenset(fields.split()), without_effect)


# Reasons that several decoders give.
STATISTICS_ONLY = "names or filters statistics only"
NO_READER = "no supported filter reads it"
NO_TRACING = "nothing is traced"
TYPE_DECIDES = "the type of the configuration says which extension it is"
