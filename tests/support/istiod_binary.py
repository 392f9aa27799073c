"""Istio's control plane (https://istio.io): `tests/istiod/server` is its program."""

from __future__ import annotations

from pathlib import Path

from tests.support.go_binary import GoBinary

# About six minutes of CPU the first time.
ISTIOD = GoBinary(name="istiod", sources=Path(__file__).parents[1] / "istiod" / "server")
