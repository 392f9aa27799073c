"""What is found in the files of an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.images.build import Image
from tests.images.tree import PACKAGES, problems
from tests.support.builds import byte_loops, compiled_modules

SUFFIXES = {"amd64": ".cpython-313-x86_64-linux-gnu.so", "arm64": ".cpython-313-aarch64-linux-gnu.so"}
ELF = {"amd64": b"\x7fELF" + bytes(14) + b"\x3e\0", "arm64": b"\x7fELF" + bytes(14) + b"\xb7\0"}


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """With the data path compiled for amd64."""
    for module in (*compiled_modules(), *byte_loops()):
        library = tmp_path / PACKAGES[1:] / f"{module.replace('.', '/')}{SUFFIXES['amd64']}"
        library.parent.mkdir(parents=True, exist_ok=True)
        library.write_bytes(ELF["amd64"])
    return Image(digest="", layers=(tmp_path,), environment={}, labels={})


def library(image: Image, module: str) -> Path:
    return image.layers[0] / PACKAGES[1:] / f"{module}{SUFFIXES['amd64']}"


def test_an_image_with_the_whole_data_path_compiled_is_good(image: Image) -> None:
    assert problems(image, "amd64") == []


@pytest.mark.parametrize("module", ["sidecar/errors", "sidecar/http/h1/_head"])
def test_a_module_without_its_library_is_a_problem(image: Image, module: str) -> None:
    library(image, module).unlink()
    (problem,) = problems(image, "amd64")
    assert problem == f"{PACKAGES}/{module}{SUFFIXES['amd64']} is missing: the module is not compiled"


def test_a_library_of_another_architecture_is_a_problem(image: Image) -> None:
    library(image, "sidecar/errors").write_bytes(ELF["arm64"])
    assert "is a program for another architecture (0xb7)" in problems(image, "amd64")[0]
    missing = [problem for problem in problems(image, "arm64") if "is missing" in problem]
    assert len(missing) == len(compiled_modules()) + len(byte_loops())
