"""The HTTP filters of the proxy. The modules of this folder are the list: a module with a `KIND` is a
filter."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

import sidecar.filters as package
from sidecar.filters.chain import FilterKind, FilterRegistry


def _kinds() -> Iterator[FilterKind]:
    for module in iter_modules(package.__path__):
        if module.name != "registry":
            kind = getattr(import_module(f"{package.__name__}.{module.name}"), "KIND", None)
            if isinstance(kind, FilterKind):
                yield kind


FILTERS: Final = FilterRegistry(*_kinds())
