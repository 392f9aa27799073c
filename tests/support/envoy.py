"""The real Envoy, from a separate virtual environment."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def envoy_binary() -> Path:
    """`OUTRIGGER_ENVOY` where it is set, else what `make test` installed. It is part of the test set-up, so
    its absence is a failure, never a skip."""
    binary = Path(os.environ.get("OUTRIGGER_ENVOY", ROOT / ".cache" / "envoy" / "bin" / "envoy"))
    if not binary.is_file():
        raise FileNotFoundError(f"{binary} is missing: run `make test`, which installs it")
    return binary


def envoy_command(bootstrap: Path, *arguments: str, concurrency: int = 1) -> list[str]:
    """No shared memory: several may run on one machine."""
    command = [str(envoy_binary()), "-c", str(bootstrap), "--concurrency", str(concurrency)]
    return [*command, "--disable-hot-restart", "--log-level", "warning", *arguments]
