"""The check of one image: what is in it, and whether its programs start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.images import programs, tree
from tests.images.build import Builder, Image, remove_unused_layers
from tests.images.dockerfile import Context, Dockerfile
from tests.images.programs import Figures
from tests.images.runner import Runner

ROOT: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = ROOT / "deploy" / "docker" / "Dockerfile"
STARTS: Final[dict[str, tuple[Callable[[Runner], Figures], ...]]] = {
    "controlplane": (programs.interpreter, programs.controlplane),
    "sidecar": (programs.interpreter, programs.interception, programs.data_path, programs.sidecar),
    "cli": (programs.interpreter, programs.data_path, programs.command),
}
# The lock of iptables, which user 0 of an init container takes where the root is not read-only.
_PERMITTED: Final = {"/run/xtables.lock"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    figures: Figures
    problems: list[str]


def builder(architecture: str, say: Callable[[str], None]) -> Builder:
    remove_unused_layers()
    context = Context.read(ROOT, DOCKERFILE.with_name("Dockerfile.dockerignore"))
    return Builder(Dockerfile.parse(DOCKERFILE.read_text()), context, architecture, say)


def check(name: str, image: Image, architecture: str, scratch: Path) -> Checked:
    """Starts each program twice: on a read-only root, and on one that shows what they would write. Raises
    `ProgramError`."""
    found = tree.problems(image, architecture)
    figures = start(name, image, scratch)
    writing = Runner(image=image, scratch=scratch, read_only=False)
    for program in STARTS[name]:
        program(writing)
    found += [f"{path} is written outside of a volume" for path in sorted(writing.written - _PERMITTED)]
    return Checked(figures=figures, problems=found)


def start(name: str, image: Image, scratch: Path) -> Figures:
    """On a read-only root. Raises `ProgramError`."""
    figures: Figures = {}
    for program in STARTS[name]:
        figures |= program(Runner(image=image, scratch=scratch))
    return figures
