"""The images, made by the steps of their Dockerfile: what is in them, and whether their programs start."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import check, tree
from tests.images.build import CACHE, Builder
from tests.images.lint import IMAGES
from tests.images.sandbox import missing_for_a_sandbox


@pytest.fixture(scope="module")
def build() -> Builder:
    reason = missing_for_a_sandbox()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"images: {reason}")
    if reason:
        pytest.skip(f"images: {reason}")
    return check.builder("amd64", lambda line: None)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Not in /tmp, which may be an overlay itself."""
    with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
        yield Path(folder)


@pytest.mark.timeout(1800)  # the first run installs packages; later ones compile the data path, if it changed
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_only_what_it_needs_and_its_programs_start(
    build: Builder, scratch: Path, name: str
) -> None:
    image = build.image(name)
    assert tree.problems(image, "amd64") == []
    assert check.start(name, image, scratch)
