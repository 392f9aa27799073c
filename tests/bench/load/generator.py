"""Load generators in processes of their own, so that their work does not count and does not delay."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.bench.load.latencies import Load

ROOT = Path(__file__).resolve().parents[3]


class LoadError(Exception):
    """The proxy under load failed."""


def run_generator(module: str, **parameters: object) -> Load:
    """Runs a module of this folder with its parameters as JSON; it prints a `Load` as JSON."""
    command = [sys.executable, "-m", f"tests.bench.load.{module}", json.dumps(parameters)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if ended.returncode:
        raise LoadError(f"the load generator {module} failed with {parameters}:\n{ended.stderr[-2000:]}")
    return Load.from_json(ended.stdout)
