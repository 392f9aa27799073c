"""``.status`` of every kind that users write: the state of the resource, as text."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from controlplane.resources.base import Message, NonEmptyStr, NonNegativeInt, Str

Generation = Annotated[
    int, Field(strict=True, ge=0, description="The `metadata.generation` that this status describes.")
]


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Message):
    """``metav1.Condition``: something that is true, false or unknown, and why."""

    type: Annotated[NonEmptyStr, Field(max_length=316, description="Accepted, ResolvedRefs or Programmed.")]
    status: ConditionStatus
    reason: Annotated[
        NonEmptyStr,
        Field(
            max_length=1024,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="The reason, for programs.",
        ),
    ]
    message: Annotated[Str, Field(max_length=32768, description="The reason, for humans.")]
    last_transition_time: Annotated[
        Str,
        Field(
            description="When `status` last changed (RFC 3339).", json_schema_extra={"format": "date-time"}
        ),
    ]
    observed_generation: Generation | None = None


class ProxyCount(Message):
    """The number of proxies that the resource affects, and of those that acknowledged it."""

    concerned: NonNegativeInt = 0
    acknowledged: NonNegativeInt = 0


class Status(Message):
    """The state of the resource, written by the control plane only."""

    observed_generation: Generation | None = None
    # Server-side apply merges conditions by type, as in Kubernetes' own kinds.
    conditions: Annotated[
        tuple[Condition, ...],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = ()
    proxies: ProxyCount | None = None
