"""The sidecar's build under measurement: which sources, compiled or not, and in which interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.load.generator import ROOT

_HOT_MODULE = "import sidecar.timers; print(sidecar.timers.__file__)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """`environment` makes `python -m sidecar` import it."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)


def find_build(name: str) -> Build:
    """``python`` or ``compiled`` (built first if necessary), of these sources or, as in ``python@FOLDER``, of
    another checkout's. Raises ValueError for anything else."""
    kind, _, checkout = name.partition("@")
    root = Path(checkout or ROOT).resolve()
    if kind not in {"python", "compiled"} or not (root / "sidecar").is_dir():
        raise ValueError(f"{name!r} is not a build: expected python, compiled, or one of them @FOLDER")
    path = str(root) if kind == "python" else f"{_compiled(root)}:{root}"
    found = Build(name=name, environment={"PYTHONSAFEPATH": "1", "PYTHONPATH": path})
    if kind == "compiled" and not _is_compiled(found):
        raise ValueError(f"{name}: `make compiled` made a build that is not compiled")
    return found


def _compiled(root: Path) -> str:
    """The folder of the compiled package."""
    command = ["make", "--silent", "compiled"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root).stdout
    return output.splitlines()[-1]


def _is_compiled(build: Build) -> bool:
    command = [sys.executable, "-c", _HOT_MODULE]
    environment = {**os.environ, **build.environment}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return output.strip().endswith(".so")


def interpreter() -> str:
    """The interpreter and how it was optimised: profile-guided optimisation saves about 7% of the CPU."""
    options = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    guided = "with" if "--enable-optimizations" in options else "without"
    version = ".".join(map(str, sys.version_info[:3]))
    return f"CPython {version}, built {guided} profile-guided optimisation"
