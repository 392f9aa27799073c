"""Starts a program of an image as a cluster does: as its user, on a read-only root."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.images.build import Image
from tests.images.sandbox import Container, Volume

WAIT_S: Final = 60.0


class ProgramError(Exception):
    """The program and its output."""


@dataclass(frozen=True, slots=True)
class Running:
    program: tuple[str, ...]
    process: subprocess.Popen[bytes]
    output: Path

    def stop(self, signal_name: str) -> None:
        """Ends it as a cluster does. The first process of a container gets only signals that it
        handles."""
        self.signal(signal.Signals[signal_name])
        try:
            code = self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise self.failed(f"does not end with {signal_name}") from None
        if code:
            raise self.failed(f"exit code {code} after {signal_name}")

    def signal(self, number: signal.Signals) -> None:
        for child in self.children():
            os.kill(child, number)

    def children(self) -> list[int]:
        """The program, which is the only child of unshare(1); empty where it has ended."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(child) for child in children.read_text().split()] if children.exists() else []

    def failed(self, how: str) -> ProgramError:
        return ProgramError(f"{' '.join(self.program)}: {how}\n{self.output.read_text()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Starts programs of an image. ``written`` gets the files that they write outside of volumes, which only
    a root that is not ``read_only`` permits."""

    image: Image
    scratch: Path
    read_only: bool = True
    written: set[str] = field(default_factory=set)

    def run(self, *program: str, user: str = "", capabilities: Sequence[str] = (), **variables: str) -> str:
        """Returns the output of a program that ends with exit code 0."""
        with self.started(*program, user=user, capabilities=capabilities, variables=variables) as running:
            try:
                code = running.process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                raise running.failed("does not end") from None
            if code:
                raise running.failed(f"exit code {code}")
            return running.output.read_text()

    @contextmanager
    def started(
        self,
        *program: str,
        user: str = "",
        capabilities: Sequence[str] = (),
        volumes: Mapping[str, Path] = MappingProxyType({}),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[Running]:
        """``volumes`` has the folder or file of this machine by the path in the image."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as name:
            folder = Path(name)
            upper, work, output = folder / "upper", folder / "work", folder / "output"
            upper.mkdir()
            work.mkdir()
            container = Container(
                layers=self.image.layers,
                upper=upper,
                environment={**self.image.environment, **variables},
                user=user or self.image.user,
                capabilities=capabilities,
                read_only=self.read_only,
                volumes=[Volume(source=source, target=at) for at, source in volumes.items()],
            )
            with output.open("w") as file:
                process = subprocess.Popen(
                    container.command(program, work), stdin=subprocess.DEVNULL, stdout=file, stderr=file
                )
            running = Running(program, process, output)
            try:
                yield running
            finally:
                running.signal(signal.SIGKILL)
                try:
                    process.wait(1)
                except subprocess.TimeoutExpired:  # killed before it had a child
                    process.kill()
                    process.wait()
            self.written.update(path for path in _files(upper) if path not in volumes)


def _files(upper: Path) -> Iterator[str]:
    for path in upper.rglob("*"):
        if not path.is_dir():
            yield f"/{path.relative_to(upper)}"
