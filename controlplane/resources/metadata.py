"""``metadata`` of every Kubernetes object; fields without meaning for a mesh are ignored."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from controlplane.resources.base import Message, Str, invalid


def _forget(_: object) -> None:
    return None


# A field without meaning for a mesh. It is not kept, so that two versions that differ only in it are
# equal: each write of a status changes `resourceVersion` and `managedFields`.
Unread = Annotated[Any, BeforeValidator(_forget), Field(exclude=True, repr=False)]

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
# Kubernetes does not limit the parts between dots.
_NAME = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*"


def _check_name(name: str) -> str:
    if len(name) > 253 or not re.fullmatch(_NAME, name):
        raise invalid(
            f"{name!r:.80} is not a valid name: expected lower-case letters, digits, '-' and '.' (RFC 1123)"
        )
    return name


def _check_namespace(namespace: str) -> str:
    if not re.fullmatch(_LABEL, namespace):
        raise invalid(
            f"{namespace!r:.80} is not a valid namespace: "
            "expected lower-case letters, digits and '-' (RFC 1123)"
        )
    return namespace


def _empty_for_null(value: object) -> object:
    """Templates often render ``labels:`` without a value."""
    return {} if value is None else value


Labels = Annotated[dict[Str, Str], BeforeValidator(_empty_for_null)]


class Metadata(Message):
    name: Annotated[Str, AfterValidator(_check_name)]
    namespace: Annotated[Str, AfterValidator(_check_namespace)] = "default"
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)
    creation_timestamp: Str | None = None
    deletion_grace_period_seconds: Unread = None
    deletion_timestamp: Unread = None
    finalizers: Unread = None
    generate_name: Unread = None
    generation: Unread = None
    managed_fields: Unread = None
    owner_references: Unread = None
    resource_version: Unread = None
    self_link: Unread = None
    uid: Unread = None
