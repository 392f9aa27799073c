"""``/logging``: the log levels, changed while the sidecar runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

from sidecar.admin.answers import AdminError, Answer, Query
from sidecar.admin.state import AdminView

# Envoy's names, onto Python's levels.
LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "off": logging.CRITICAL + 10,
}
ROOT = "sidecar"


def logging_levels(_: AdminView, query: Query) -> Answer:
    """``?level=debug`` for all, ``?upstream=debug`` for ``sidecar.upstream`` and what is below it,
    ``?paths=upstream:debug,http:info`` for several; none lists the levels."""
    if len(query) > 1:
        raise AdminError("one parameter at a time: ?level=LEVEL, ?LOGGER=LEVEL, or ?paths=LOGGER:LEVEL,…")
    changes = [(_logger(name), _level(level)) for name, level in _wanted(query)]
    for name, level in changes:
        _set_level(name, level)
    lines = [
        f"  {name}: {logging.getLevelName(logging.getLogger(name).getEffectiveLevel()).lower()}\n"
        for name in _loggers()
    ]
    return "active loggers:\n" + "".join(lines)


def _wanted(query: Query) -> Iterator[tuple[str, str]]:
    for parameter, value in query.items():
        if parameter == "paths":
            for path in value.split(","):
                name, _, level = path.partition(":")
                yield name, level
        else:
            yield ROOT if parameter == "level" else parameter, value


def _level(name: str) -> int:
    if name not in LEVELS:
        raise AdminError(f"unknown logger level {name!r}: one of {' '.join(LEVELS)}")
    return LEVELS[name]


def _logger(name: str) -> str:
    known = _loggers()
    for candidate in (name, f"{ROOT}.{name}"):
        if candidate in known:
            return candidate
    raise AdminError(f"unknown logger name {name!r}: POST /logging lists them")


def _set_level(name: str, level: int) -> None:
    """Also of the loggers below: what was said of them before no longer holds."""
    logging.getLogger(name).setLevel(level)
    for other in _loggers():
        if other.startswith(f"{name}."):
            logging.getLogger(other).setLevel(logging.NOTSET)


def _loggers() -> list[str]:
    """The packages, and the modules that log."""
    packages = {name for name, module in sys.modules.items() if hasattr(module, "__path__")}
    return sorted(name for name in packages | logging.root.manager.loggerDict.keys() if _is_ours(name))


def _is_ours(name: str) -> bool:
    return name == ROOT or name.startswith(f"{ROOT}.")
