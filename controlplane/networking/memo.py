"""Remembers what was derived from parts of the immutable world, for as long as those parts are the same.

The world's objects survive from one snapshot to the next unless they changed, so identity is an exact and
cheap key where equality would walk thousands of objects. This is how proxies of one namespace share one
cluster's message, and how a change rebuilds what it touched and nothing else.

What is remembered of a large mesh takes megabytes, so worlds that are gone must not be kept: see
`forget_unused`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, Generic, ParamSpec, TypeVar

from protos.type_urls import PUSH_ORDER

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

# Compared by value: proxies and snapshots bring their own equal copies.
_VALUES: Final = (str, int, type(None), frozenset)

# The most results of one function between two changes of the world: some arguments are names from proxies.
_MOST_RESULTS: Final = 65536


class _Same:
    """Stands for an object by its identity, and keeps it alive so that its identity stays its own."""

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


class _Memory(Generic[ResultT]):
    """The results of one function: those used since the world last changed, and those of the world before.
    ``types``: building any of these types of xDS resources uses all that is worth keeping."""

    def __init__(self, types: frozenset[str]) -> None:
        self.types: Final = types
        self._used: dict[object, _Result[ResultT]] = {}
        self._older: dict[object, _Result[ResultT]] = {}

    def find(self, key: object, parts: tuple[object, ...]) -> _Result[ResultT] | None:
        found = self._used.get(key)
        if found is None and (found := self._older.pop(key, None)) is not None:
            self._used[key] = found
        return found if found is not None and found.parts == parts else None

    def keep(self, key: object, result: _Result[ResultT]) -> None:
        if len(self._used) >= _MOST_RESULTS:
            self.forget_unused()
        self._used[key] = result

    def forget_unused(self) -> None:
        self._older, self._used = self._used, {}


_MEMORIES: Final[list[_Memory[Any]]] = []
_EVERY_TYPE: Final = frozenset(PUSH_ORDER)


def forget_unused(types: Collection[str] = _EVERY_TYPE) -> None:
    """To be called when the world has changed so that all resources of ``types`` are built anew: forgets what
    they last used in the world before the last."""
    for memory in _MEMORIES:
        if not memory.types.isdisjoint(types):
            memory.forget_unused()


def memoized(
    *, latest: Collection[str] = (), types: Collection[str] = _EVERY_TYPE
) -> Callable[[Callable[ParametersT, ResultT]], Callable[ParametersT, ResultT]]:
    """Remembers the results of a pure function.

    Strings, integers, None and frozen sets are compared by value, every other argument by identity. Of
    results whose arguments differ only in those named in ``latest``, which must be given by keyword, the
    last one alone is kept. The result is shared by all callers, who must not change it. ``types`` are those
    whose builders, each of them, use what is worth keeping.
    """

    def decorate(function: Callable[ParametersT, ResultT]) -> Callable[ParametersT, ResultT]:
        memory: _Memory[ResultT] = _Memory(frozenset(types))
        _MEMORIES.append(memory)

        @wraps(function)
        def remembered(*arguments: ParametersT.args, **named: ParametersT.kwargs) -> ResultT:
            by_name = [(name, _key(value)) for name, value in named.items() if name not in latest]
            key = (*map(_key, arguments), *by_name)
            parts = tuple(_key(named[name]) for name in latest)
            found = memory.find(key, parts)
            if found is None:
                found = _Result(parts, function(*arguments, **named))
                memory.keep(key, found)
            return found.value

        return remembered

    return decorate


def _key(argument: object) -> object:
    return argument if isinstance(argument, _VALUES) else _Same(argument)
