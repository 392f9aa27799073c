"""Remembers what was derived from parts of the immutable world, for as long as those parts are the same.

The world's objects survive from one snapshot to the next unless they changed, so identity is an exact and
cheap key where equality would walk thousands of objects. This is how proxies of one namespace share one
cluster's message, and how a change rebuilds what it touched and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

# Compared by value: proxies and snapshots bring their own equal copies.
_VALUES = (str, int, type(None), frozenset)


class _Same:
    """Stands for an object by its identity, and keeps it alive so that its identity stays its own."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def memoized(size: int) -> Callable[[Callable[ParametersT, ResultT]], Callable[ParametersT, ResultT]]:
    """Keeps the ``size`` latest results of a pure function.

    Strings, integers, None and frozen sets are compared by value, every other argument by identity. The
    result is shared by all callers, who must not change it.
    """

    def decorate(function: Callable[ParametersT, ResultT]) -> Callable[ParametersT, ResultT]:
        of_values: Callable[..., ResultT] = function

        @lru_cache(maxsize=size)
        def of_keys(*keys: object, **named: object) -> ResultT:
            return of_values(*map(_argument, keys), **{name: _argument(key) for name, key in named.items()})

        @wraps(function)
        def remembered(*arguments: ParametersT.args, **named: ParametersT.kwargs) -> ResultT:
            return of_keys(*map(_key, arguments), **{name: _key(value) for name, value in named.items()})

        return remembered

    return decorate


def _key(argument: object) -> object:
    return argument if isinstance(argument, _VALUES) else _Same(argument)


def _argument(key: object) -> object:
    return key.value if isinstance(key, _Same) else key
