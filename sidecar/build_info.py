"""The version of the sidecar, and which build of its data path runs."""

from __future__ import annotations

from typing import Final

from sidecar import errors

# `importlib.metadata` would know it too, but takes 3 MB.
VERSION: Final = "0.1.0"
COMPILED: Final = not errors.__file__.endswith(".py")
"""Whether the data path was compiled. `setup.py` lists its modules."""
BUILD: Final = f"{VERSION}/{'compiled' if COMPILED else 'python'}"
