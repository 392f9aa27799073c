"""Reason phrases of statuses (RFC 9110 15), the same for each version of Python."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

# Python has changed these phrases. Envoy has the ones of RFC 7231 and RFC 4918.
_PHRASES: Final = {
    413: "Payload Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Entity",
}


def reason(status: int) -> str:
    """Returns the phrase; "Unknown" for a status that has none."""
    if status in _PHRASES:
        return _PHRASES[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
