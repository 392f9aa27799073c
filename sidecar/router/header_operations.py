"""Headers that a route configuration adds, overwrites and removes, in Envoy's order.

The most specific level comes first, so that the least specific one has precedence:
weighted cluster, route, virtual host, route configuration; ``most_specific_header_mutations_wins`` turns the
last three around. Each level removes before it sets, and overwrites before it adds. Fields that the codec
writes itself (`CODEC_FIELDS`) cannot be changed: an operation on one has no effect.
Source: ``envoy.config.route.v3.RouteConfiguration``, ``HeaderValueOption``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.config.route import AppendAction, HeaderOperations, HeaderValue
from sidecar.http.headers import CODEC_FIELDS, Headers

_LOG = logging.getLogger(__name__)

_OVERWRITES = frozenset({AppendAction.OVERWRITE_IF_EXISTS_OR_ADD, AppendAction.OVERWRITE_IF_EXISTS})


@dataclass(frozen=True, slots=True)
class HeaderMutation:
    """One level's operations on one message."""

    removes: frozenset[bytes]
    overwrites: tuple[HeaderValue, ...]
    additions: tuple[HeaderValue, ...]

    def apply(self, headers: Headers) -> None:
        if self.removes:
            headers[:] = [pair for pair in headers if pair[0] not in self.removes]
        for option in self.overwrites:
            _overwrite(headers, option)
        for option in self.additions:
            _add(headers, option)


def apply_header_value(headers: Headers, option: HeaderValue) -> None:
    """Applies one operation."""
    if option.action in _OVERWRITES:
        _overwrite(headers, option)
    else:
        _add(headers, option)


def _add(headers: Headers, option: HeaderValue) -> None:
    if option.action is AppendAction.APPEND_IF_EXISTS_OR_ADD or not _has(headers, option.name):
        headers.append((option.name, option.value))


def _has(headers: Headers, name: bytes) -> bool:
    return any(header == name for header, _ in headers)


def _overwrite(headers: Headers, option: HeaderValue) -> None:
    if _has(headers, option.name):
        headers[:] = [pair for pair in headers if pair[0] != option.name]
    elif option.action is AppendAction.OVERWRITE_IF_EXISTS:
        return
    headers.append((option.name, option.value))


@dataclass(frozen=True, slots=True)
class HeaderMutations:
    """The operations of all levels of one route, on its requests and on its responses."""

    request: tuple[HeaderMutation, ...]
    response: tuple[HeaderMutation, ...]


def compile_header_operations(levels: Iterable[HeaderOperations]) -> HeaderMutations:
    """`levels` in the order in which they are applied. Levels without operations are left out."""
    ordered = tuple(levels)
    return HeaderMutations(
        _mutations((level.request_remove, level.request_set) for level in ordered),
        _mutations((level.response_remove, level.response_set) for level in ordered),
    )


def warn_without_effect(names: Iterable[bytes]) -> None:
    listed = b", ".join(sorted(names)).decode()
    _LOG.warning("header operations on %s have no effect: only the codec writes these fields", listed)


def _mutations(
    operations: Iterable[tuple[tuple[bytes, ...], tuple[HeaderValue, ...]]],
) -> tuple[HeaderMutation, ...]:
    mutations = (_mutation(removes, sets) for removes, sets in operations if removes or sets)
    return tuple(mutation for mutation in mutations if mutation is not None)


def _mutation(removes: tuple[bytes, ...], sets: tuple[HeaderValue, ...]) -> HeaderMutation | None:
    """Returns None if no operation has an effect."""
    without_effect = CODEC_FIELDS.intersection((*removes, *(option.name for option in sets)))
    if without_effect:
        warn_without_effect(without_effect)
        sets = tuple(option for option in sets if option.name not in CODEC_FIELDS)
    removed = frozenset(removes) - CODEC_FIELDS
    if not removed and not sets:
        return None
    return HeaderMutation(
        removed,
        tuple(option for option in sets if option.action in _OVERWRITES),
        tuple(option for option in sets if option.action not in _OVERWRITES),
    )
