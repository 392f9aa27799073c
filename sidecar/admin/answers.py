"""How an admin endpoint answers: text, JSON, or an error in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sidecar.http.message import Response

Query = Mapping[str, str]
Answer = str | Mapping[str, Any] | Response

PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"


class AdminError(Exception):
    """The request cannot be answered: a query parameter that is none, with the reason."""


def text(body: str, status: int = 200, content_type: bytes = b"text/plain; charset=UTF-8") -> Response:
    # What an admin page shows changes from one look to the next, and is nobody's to embed.
    headers = [
        (b"content-type", content_type),
        (b"cache-control", b"no-cache, max-age=0"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Response(status, headers, body.encode())


def json_document(body: Mapping[str, Any]) -> Response:
    return text(json.dumps(body, indent=1) + "\n", content_type=b"application/json")


def wanted_format(query: Query, *formats: str) -> str:
    """The ``format`` parameter; the first of `formats` is the default. Raises `AdminError`."""
    chosen = query.get("format", formats[0])
    if chosen not in formats:
        raise AdminError(f"usage: ?format={'|'.join(formats)}, not {chosen!r}")
    return chosen
