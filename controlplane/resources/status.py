"""``.status`` of every kind that users write: what became of the resource, in words."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from controlplane.resources.base import Message, NonEmptyStr, NonNegativeInt, Str

Generation = Annotated[
    int, Field(strict=True, ge=0, description="The `metadata.generation` that this was found out about.")
]


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Message):
    """``metav1.Condition``: one thing that holds, does not hold, or is not known yet, and why."""

    type: Annotated[NonEmptyStr, Field(max_length=316, description="Accepted, ResolvedRefs or Programmed.")]
    status: ConditionStatus
    reason: Annotated[
        NonEmptyStr,
        Field(
            max_length=1024,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="A word for programs.",
        ),
    ]
    message: Annotated[Str, Field(max_length=32768, description="Words for people.")]
    last_transition_time: Annotated[
        Str,
        Field(
            description="When `status` last changed (RFC 3339).", json_schema_extra={"format": "date-time"}
        ),
    ]
    observed_generation: Generation | None = None


class ProxyCount(Message):
    """How many proxies the resource concerns, and how many of them acknowledged it."""

    concerned: NonNegativeInt = 0
    acknowledged: NonNegativeInt = 0


class Status(Message):
    """What the control plane found out about the resource. Nobody else writes it."""

    observed_generation: Generation | None = None
    # Server-side apply merges conditions by their type, as in Kubernetes' own kinds.
    conditions: Annotated[
        tuple[Condition, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = ()
    proxies: ProxyCount | None = None
