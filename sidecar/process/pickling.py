"""Pickles of configurations, reports and other values that the sidecar's processes exchange.

`pickle.loads` reads them. `pickle.dumps` is not enough where the values' classes are compiled: a compiled
frozen dataclass would be filled by assignments to its fields, which it refuses.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any


def dumps(value: object) -> bytes:
    """Raises what `pickle.dumps` raises, for a value that cannot be pickled."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        cls: Any = type(value)
        names = _frozen_fields(cls)
        if not names:
            return NotImplemented
        return _restored, (cls, *[getattr(value, name) for name in names])


@cache
def _frozen_fields(cls: Any) -> tuple[str, ...]:
    """The names of a frozen dataclass's fields; empty for another class."""
    if not is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[union-attr]
        return ()
    return tuple(field.name for field in fields(cls))


def _restored(cls: Any, *values: object) -> object:
    """Neither ``__init__`` nor ``__post_init__`` runs again, as for any unpickled object."""
    restored: object = cls.__new__(cls)
    for name, value in zip(_frozen_fields(cls), values, strict=True):
        object.__setattr__(restored, name, value)
    return restored
