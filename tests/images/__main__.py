"""`make image-check`: builds the images without a container engine, starts their programs, prints sizes."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.images import tree
from tests.images.build import CACHE, BuildError
from tests.images.check import DOCKERFILE, builder, check
from tests.images.dockerfile import Dockerfile, DockerfileError
from tests.images.lint import IMAGES, problems
from tests.images.runner import ProgramError
from tests.images.sandbox import missing_for_a_sandbox

MEGABYTE: Final = 1_000_000
DIFFERENCES: Final = """
Different from a build by a container engine:
- FROM debian: mmdebstrap makes the tree from the same packages; it is not pulled, nor its digest verified
- RUN and the programs have no seccomp profile
- ARG VERSION, REVISION and SOURCE, and the labels with them, are not filled in
- programs of linux/arm64 are not started: only the files are checked
"""


def main(arguments: list[str]) -> int:
    if arguments == ["--fresh"]:
        shutil.rmtree(CACHE, ignore_errors=True)
    elif arguments:
        print("usage: python -m tests.images [--fresh]", file=sys.stderr)
        return 2
    if missing := missing_for_a_sandbox():
        print(f"image-check: {missing}", file=sys.stderr)
        return 1
    try:
        found = problems(Dockerfile.parse(DOCKERFILE.read_text())) + _check("amd64") + _check("arm64")
    except (BuildError, DockerfileError, ProgramError) as error:
        print(f"image-check: {error}", file=sys.stderr)
        return 1
    print(DIFFERENCES)
    for problem in found:
        print(f"image-check: {problem}", file=sys.stderr)
    return 1 if found else 0


def _check(architecture: str) -> list[str]:
    """Prints the rows of the table. Returns the problems."""
    found = []
    build = builder(architecture, lambda line: print(f"  {line}", flush=True))
    with tempfile.TemporaryDirectory(dir=CACHE.parent) as scratch:
        for name in IMAGES:
            image = build.image(name)
            unpacked, compressed = _megabytes(tree.size(image)), _megabytes(tree.compressed_size(image))
            print(f"{name} linux/{architecture}: {unpacked} unpacked, {compressed} compressed", flush=True)
            if architecture != "amd64":
                found += tree.problems(image, architecture)
                continue
            checked = check(name, image, architecture, Path(scratch))
            for what, figure in checked.figures.items():
                print(f"  {figure:>8}  {what}")
            found += checked.problems
    return found


def _megabytes(count: int) -> str:
    return f"{count / MEGABYTE:.0f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
