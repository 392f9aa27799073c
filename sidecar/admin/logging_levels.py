"""``/logging``: changes log levels while the sidecar runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from sidecar.admin.answers import AdminError, Answer, Query
from sidecar.admin.state import AdminView
from sidecar.observability.log_levels import ROOT, loggers

# Envoy's names, mapped to Python's levels.
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


async def logging_levels(view: AdminView, query: Query) -> Answer:
    """``?level=debug`` for all loggers, ``?upstream=debug`` for ``sidecar.upstream`` and its submodules,
    ``?paths=upstream:debug,http:info`` for several. Without a parameter it lists the levels."""
    if len(query) > 1:
        raise AdminError("use one parameter: ?level=LEVEL, ?LOGGER=LEVEL, or ?paths=LOGGER:LEVEL,…")
    await view.set_log_levels({_logger(name): _level(level) for name, level in _wanted(query)})
    lines = [
        f"  {name}: {logging.getLevelName(logging.getLogger(name).getEffectiveLevel()).lower()}\n"
        for name in loggers()
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
        raise AdminError(f"unknown logger level {name!r}: use one of {' '.join(LEVELS)}")
    return LEVELS[name]


def _logger(name: str) -> str:
    known = loggers()
    for candidate in (name, f"{ROOT}.{name}"):
        if candidate in known:
            return candidate
    raise AdminError(f"unknown logger name {name!r}: POST /logging lists the loggers")
