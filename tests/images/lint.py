"""Rules for deploy/docker/Dockerfile, as linters of Dockerfiles have them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from tests.images.dockerfile import Dockerfile, Stage

IMAGES: Final = ("controlplane", "sidecar", "cli")
_LAST: Final = ("ENTRYPOINT", "STOPSIGNAL", "USER")  # each image must have them
_RULES: Final[tuple[tuple[Callable[[str], object], str], ...]] = (
    (lambda run: re.search(r"\bpip (install|wheel)\b(?!.*--no-deps)", run), "pip without --no-deps"),
    (
        lambda run: re.search(r"apt-get install(?!.*rm -rf /var/lib/apt/lists)", run),
        "the lists of apt stay in the layer",
    ),
    (lambda run: re.search(r"\b(curl|wget|git clone)\b", run), "a download without a hash"),
)
_PINNED: Final = re.compile(r"[^\s:@]+:(?!latest@)[^\s:@]+@sha256:[0-9a-f]{64}")


def problems(dockerfile: Dockerfile) -> list[str]:
    """Each with the number of its line; empty for a good file."""
    found = [problem for stage in dockerfile.stages.values() for problem in _of_stage(stage, dockerfile)]
    for name in IMAGES:
        found += _of_image(name, dockerfile) if name in dockerfile.stages else [f"no stage {name}"]
    return found


def _of_stage(stage: Stage, dockerfile: Dockerfile) -> Iterator[str]:
    if stage.base not in dockerfile.stages and stage.base != "scratch" and not _PINNED.fullmatch(stage.base):
        yield f"line {stage.line}: the image {stage.base} has no tag and digest"
    for each in stage.instructions:
        if each.keyword == "RUN":
            yield from (f"line {each.line}: {why}" for rule, why in _RULES if rule(each.value))
        if each.keyword == "COPY" and each.words()[0] == ".":
            yield f"line {each.line}: COPY of the whole context"


def _of_image(name: str, dockerfile: Dockerfile) -> Iterator[str]:
    lineage = dockerfile.lineage(name)
    last = {key: each for stage in lineage for key in _LAST if (each := stage.last(key)) is not None}
    for keyword in _LAST:
        if keyword not in last:
            yield f"{name}: no {keyword}"
    user = last["USER"].value if "USER" in last else "1:1"
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user):
        yield f"{name}: the user {user} is not a number other than 0, which Kubernetes can check"
    if lineage[0].base != "scratch":
        yield f"{name}: contains the tools of its base image {lineage[0].base}"
    labels = {
        key
        for stage in lineage
        for each in stage.instructions
        if each.keyword == "LABEL"
        for key in each.pairs()
    }
    for label in ("description", "licenses", "revision", "source", "title", "version"):
        if f"org.opencontainers.image.{label}" not in labels:
            yield f"{name}: no label org.opencontainers.image.{label}"
