"""``/logging``: the log levels, changed while the sidecar runs."""

from __future__ import annotations

import logging

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
    """``?level=debug`` for all, ``?upstream=debug`` for ``sidecar.upstream``; none lists the levels."""
    if len(query) > 1:
        raise AdminError("usage: /logging?level=LEVEL, or /logging?LOGGER=LEVEL: one at a time")
    for name, level in query.items():
        if level not in LEVELS:
            raise AdminError(f"unknown level {level!r}: one of {', '.join(LEVELS)}")
        for logger in _loggers() if name == "level" else [_logger(name)]:
            logger.setLevel(LEVELS[level])
    lines = [
        f"  {logger.name}: {logging.getLevelName(logger.getEffectiveLevel()).lower()}"
        for logger in _loggers()
    ]
    return "active loggers:\n" + "\n".join(lines) + "\n"


def _logger(name: str) -> logging.Logger:
    known = {logger.name: logger for logger in _loggers()}
    found = known.get(name) or known.get(f"{ROOT}.{name}")
    if found is None:
        raise AdminError(f"unknown logger {name!r}: POST /logging lists them")
    return found


def _loggers() -> list[logging.Logger]:
    names = [name for name in logging.root.manager.loggerDict if name.startswith(f"{ROOT}.")]
    return [logging.getLogger(name) for name in (ROOT, *sorted(names))]
