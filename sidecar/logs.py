"""The log of a process, on standard error."""

from __future__ import annotations

import logging
from typing import Final

from sidecar.admin.logging_levels import LEVELS
from sidecar.observability.flood_filter import FloodFilter

FORMAT: Final = "%(asctime)s\t%(levelname)s\t%(name)s\t%(message)s"


def set_up_logging(level: str) -> None:
    """``level`` is one of `LEVELS`."""
    handler = logging.StreamHandler()
    handler.addFilter(FloodFilter())
    logging.basicConfig(format=FORMAT, level=logging.INFO, handlers=[handler])
    logging.getLogger("sidecar").setLevel(LEVELS[level])
