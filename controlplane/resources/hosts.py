"""Wildcards in host names."""

from __future__ import annotations


def covers(pattern: str, hostname: str) -> bool:
    """Whether ``*``, ``*.example.com`` or an exact name matches all of ``hostname``, which may itself be a
    wildcard (Istio's ``host.Name.SubsetOf``)."""
    return pattern == hostname or (pattern.startswith("*") and hostname.endswith(pattern[1:]))
