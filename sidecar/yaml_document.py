"""Parses a YAML document. JSON is YAML, and the common case."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sidecar.errors import BootstrapError


def parse_document(content: bytes, source: str) -> Mapping[str, Any]:
    """Raises `BootstrapError` that names ``source``, unless the document is a mapping."""
    try:
        document = json.loads(content, object_pairs_hook=_unique, parse_constant=_not_json)
    except (ValueError, RecursionError):
        # Only a document that is not JSON, or is invalid, needs the YAML parser, which takes 2 MB.
        from sidecar.yaml_parser import parse_yaml  # noqa: PLC0415

        document = parse_yaml(content, source)
    if not isinstance(document, dict):
        raise BootstrapError(f"{source}: not a mapping")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The YAML parser names the line of a duplicate key."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("duplicate key")
    return document


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
