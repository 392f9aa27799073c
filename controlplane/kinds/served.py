"""Reads objects of an API server as resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.errors import InvalidResourceError, ResourceError
from controlplane.kinds.registry import KINDS
from controlplane.resources.resource import Resource


def read_served(kind: str, document: Mapping[str, Any]) -> Resource | tuple[ResourceError, ...]:
    """The resource that an object of a registered kind describes, or its errors. Items of a list have no
    ``apiVersion`` and ``kind``, so they are added."""
    api_version, *_ = KINDS[kind].api_versions
    try:
        return KINDS.parse({**document, "apiVersion": api_version, "kind": kind}, served=True)
    except InvalidResourceError as error:
        return error.errors
    except ResourceError as error:
        return (error,)
