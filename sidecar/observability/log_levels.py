"""The log levels of a process, which can change while it runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Final

ROOT: Final = "sidecar"


def loggers() -> list[str]:
    """The names of the packages, and of the modules that log."""
    packages = {name for name, module in sys.modules.items() if hasattr(module, "__path__")}
    return sorted(name for name in packages | logging.root.manager.loggerDict.keys() if _is_ours(name))


def set_log_levels(levels: Mapping[str, int]) -> None:
    """Sets the levels by logger, in this order. Each also resets the loggers below it."""
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
        for other in loggers():
            if other.startswith(f"{name}."):
                logging.getLogger(other).setLevel(logging.NOTSET)


def _is_ours(name: str) -> bool:
    return name == ROOT or name.startswith(f"{ROOT}.")
