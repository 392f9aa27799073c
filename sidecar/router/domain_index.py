"""Finds the virtual host of a request by its authority.

Source: ``envoy.config.route.v3.VirtualHost.domains``: exact names first, then the longest ``*suffix``, then
the longest ``prefix*``, then ``*``. Names are case-insensitive.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from sidecar.authority import split_port

T = TypeVar("T")


class DomainIndex(Generic[T]):
    """Looks into one dictionary for exact names, and into one for each length of a wildcard."""

    __slots__ = ("_default", "_exact", "_ignore_port", "_prefixes", "_suffixes", "_takes_all")

    def __init__(self, entries: Iterable[tuple[str, T]], *, ignore_port: bool = False) -> None:
        self._ignore_port = ignore_port
        self._exact: dict[bytes, T] = {}
        self._default: T | None = None
        suffixes: dict[int, dict[bytes, T]] = {}
        prefixes: dict[int, dict[bytes, T]] = {}
        for domain, target in entries:
            name = domain.lower().encode()
            if name == b"*":
                table, name = self._exact, b"*"
            elif name.startswith(b"*"):
                name = name[1:]
                table = suffixes.setdefault(len(name), {})
            elif name.endswith(b"*"):
                name = name[:-1]
                table = prefixes.setdefault(len(name), {})
            else:
                table = self._exact
            table[name] = target
        self._default = self._exact.pop(b"*", None)
        self._suffixes = sorted(suffixes.items(), reverse=True, key=lambda item: item[0])
        self._prefixes = sorted(prefixes.items(), reverse=True, key=lambda item: item[0])
        self._takes_all = not (self._exact or suffixes or prefixes)

    def find(self, authority: bytes) -> T | None:
        if self._takes_all:
            return self._default
        if self._ignore_port:
            authority, _ = split_port(authority)
        found = self._exact.get(authority)
        if found is not None:
            return found
        name = authority.lower()
        found = self._exact.get(name)
        return found if found is not None else self._find_wildcard(name)

    def _find_wildcard(self, name: bytes) -> T | None:
        """The asterisk matches at least one character."""
        for length, targets in self._suffixes:
            if len(name) > length and (found := targets.get(name[-length:])) is not None:
                return found
        for length, targets in self._prefixes:
            if len(name) > length and (found := targets.get(name[:length])) is not None:
                return found
        return self._default
