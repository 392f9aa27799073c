"""The version of the sidecar. ``importlib.metadata`` would know it too, but takes 3 MB."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
