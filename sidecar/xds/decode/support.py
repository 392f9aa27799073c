"""The fields that a decoder supports. Each decoder declares the messages that it reads.

A field that is set and not declared is refused by its path. Well-known types (durations, wrappers, structs)
need no declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """``fields`` are read by the decoder. The other fields are accepted too, but requests get the same
    answers with them and without them:

    - ``kept`` are read and kept in the configuration, but nothing uses them yet.
    - ``checked`` are messages that the decoder does not read, since none of their options has an effect; an
      option that is not supported is refused.
    - ``without_effect`` maps a field whose contents are not checked to the reason why it is accepted.
    """

    fields: frozenset[str]
    kept: frozenset[str] = frozenset()
    checked: frozenset[str] = frozenset()
    without_effect: Mapping[str, str] = field(default_factory=dict)
    accepted: frozenset[str] = field(init=False)  # all of them

    def __post_init__(self) -> None:
        accepted = self.fields | self.kept | self.checked | self.without_effect.keys()
        object.__setattr__(self, "accepted", accepted)


SupportTable: TypeAlias = Mapping[str, Support]
"""The supported fields by the full name of the message."""


def support(fields: str = "", *, kept: str = "", checked: str = "", **without_effect: str) -> Support:
    """Fields are separated by spaces. Each other keyword is a field without effect, with the reason."""
    return Support(
        fields=frozenset(fields.split()),
        kept=frozenset(kept.split()),
        checked=frozenset(checked.split()),
        without_effect=without_effect,
    )


# Reasons that several decoders give.
STATISTICS_ONLY = "names or filters statistics only"
NO_READER = "no supported filter reads it"
NO_TRACING = "nothing is traced"
TYPE_DECIDES = "the type of the configuration selects the extension"
NO_HEALTH_CHECKS = "configures active health checks, which are refused"
BOUNDED_BODIES = "bodies are bounded by their own high-water mark"
NO_HASHING = "only hashing balancers read it, and none is supported"
