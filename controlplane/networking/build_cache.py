"""Caches results that are derived from parts of immutable snapshots, for as long as those parts are the same.

The objects of a snapshot survive into the next one unless they change, so their identity is an exact and
cheap cache key, where equality would compare thousands of objects. That is how proxies of one namespace share
one cluster's message, and how a change rebuilds only the resources that it touches.

The results for a large mesh take megabytes, so those of old snapshots must be dropped: see
`BuildCache.forget_unused`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

from protos.type_urls import PUSH_ORDER

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

# Compared by value: proxies and snapshots bring their own equal copies.
_VALUES: Final = (str, int, type(None), frozenset)

# The maximum number of results of one function between two changes of the mesh: some arguments are names that
# proxies send.
_MOST_RESULTS: Final = 65536

_EVERY_TYPE: Final = frozenset(PUSH_ORDER)


class _Same:
    """Represents an object by its identity, and keeps it alive so that no other object gets that identity."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@dataclass(frozen=True, slots=True)
class _Result(Generic[ResultT]):
    parts: tuple[object, ...]
    value: ResultT


class _Results(Generic[ResultT]):
    """The results of one function: those used since the mesh last changed, and those used before that.
    ``types``: building any of these types of xDS resources uses every result that is worth keeping."""

    def __init__(self, types: frozenset[str], most_results: int) -> None:
        self.types: Final = types
        self._most_results: Final = most_results
        self._used: dict[object, _Result[ResultT]] = {}
        self._older: dict[object, _Result[ResultT]] = {}

    def find(self, key: object, parts: tuple[object, ...]) -> _Result[ResultT] | None:
        found = self._used.get(key)
        if found is None and (found := self._older.pop(key, None)) is not None:
            self._used[key] = found
        return found if found is not None and found.parts == parts else None

    def keep(self, key: object, result: _Result[ResultT]) -> None:
        if len(self._used) >= self._most_results:
            self.forget_unused()
        self._used[key] = result

    def forget_unused(self) -> None:
        self._older, self._used = self._used, {}


class BuildCache:
    """The results of all `cached` functions for one control plane. ``most_results`` of each are kept between
    two changes of the mesh."""

    def __init__(self, most_results: int = _MOST_RESULTS) -> None:
        self._most_results: Final = most_results
        self._results: Final[dict[object, _Results[Any]]] = {}

    def results(self, function: object, types: frozenset[str]) -> _Results[Any]:
        """The results of a function."""
        found = self._results.get(function)
        if found is None:
            found = self._results[function] = _Results(types, self._most_results)
        return found

    def forget_unused(self, types: Collection[str] = _EVERY_TYPE) -> None:
        """Called when the mesh has changed so that all resources of ``types`` are built again. Drops the
        results that were not used since the call before."""
        for results in self._results.values():
            if not results.types.isdisjoint(types):
                results.forget_unused()


def cached(
    *, latest: Collection[str] = (), types: Collection[str] = _EVERY_TYPE
) -> Callable[
    [Callable[Concatenate[BuildCache, ParametersT], ResultT]],
    Callable[Concatenate[BuildCache, ParametersT], ResultT],
]:
    """Keeps the results of a pure function in the cache that is its first argument.

    Strings, integers, None and frozen sets are compared by value, every other argument by identity. Of
    results whose arguments differ only in those named in ``latest``, which must be given by keyword, only the
    last one is kept. All callers share the result, and must not change it. ``types``: the builders of each of
    these types of xDS resources use every result that is worth keeping.
    """
    built = frozenset(types)

    def decorate(
        function: Callable[Concatenate[BuildCache, ParametersT], ResultT],
    ) -> Callable[Concatenate[BuildCache, ParametersT], ResultT]:
        @wraps(function)
        def look_up(
            cache: BuildCache, /, *arguments: ParametersT.args, **named: ParametersT.kwargs
        ) -> ResultT:
            results: _Results[ResultT] = cache.results(function, built)
            by_name = [(name, _key(value)) for name, value in named.items() if name not in latest]
            key = (*map(_key, arguments), *by_name)
            parts = tuple(_key(named[name]) for name in latest)
            found = results.find(key, parts)
            if found is None:
                found = _Result(parts, function(cache, *arguments, **named))
                results.keep(key, found)
            return found.value

        return look_up

    return decorate


def _key(argument: object) -> object:
    return argument if isinstance(argument, _VALUES) else _Same(argument)
