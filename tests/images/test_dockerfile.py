"""The reading of Dockerfiles, and the rules for the one of the images."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.images.check import DOCKERFILE, ROOT
from tests.images.dockerfile import Context, Dockerfile, DockerfileError
from tests.images.lint import problems

IMAGE = "debian:trixie-slim@sha256:" + "0" * 64


def linted(old: str, new: str) -> list[str]:
    """The problems of the Dockerfile of the images after a change."""
    text = DOCKERFILE.read_text()
    assert old in text
    return problems(Dockerfile.parse(text.replace(old, new)))


def test_the_dockerfile_of_the_images_keeps_the_rules() -> None:
    assert problems(Dockerfile.parse(DOCKERFILE.read_text())) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (":trixie-20260803-slim@", "@", "has no tag and digest"),
        (":trixie-20260803-slim@", ":latest@", "has no tag and digest"),
        ("USER 1337:1337", "USER root", "the user root is not a number other than 0"),
        ("USER 1337:1337", "USER 0:0", "the user 0:0 is not a number other than 0"),
        ("STOPSIGNAL SIGTERM\n", "", "sidecar: no STOPSIGNAL"),
        ('ENTRYPOINT ["outrigger"]\n', "", "cli: no ENTRYPOINT"),
        ("FROM scratch AS runtime", "FROM tools AS runtime", "contains the tools of its base image"),
        (" && rm -rf /var/lib/apt/lists/*", "", "the lists of apt stay in the layer"),
        ("--no-deps", "", "pip without --no-deps"),
        ("org.opencontainers.image.licenses", "licenses", "no label org.opencontainers.image.licenses"),
        ("AS cli\n", "AS command\n", "no stage cli"),
    ],
)
def test_a_broken_rule(old: str, new: str, problem: str) -> None:
    assert any(problem in found for found in linted(old, new))


def test_lines_are_continued_and_arguments_are_filled_in() -> None:
    start = f"# text\nARG BASE={IMAGE}\n\nFROM --platform=$BUILDPLATFORM ${{BASE}} AS one\n"
    text = f'{start}RUN a \\\n # text\n && b "$C"\n'
    dockerfile = Dockerfile.parse(text)
    (stage,) = dockerfile.stages.values()
    assert (stage.base, stage.flags) == (IMAGE, {"platform": "$BUILDPLATFORM"})
    (run,) = stage.instructions
    assert (run.line, run.value.split()) == (5, ["a", "&&", "b", '"$C"'])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("FROM a AS b\nADD x y", "line 2: ADD is not supported"),
        ("FROM a", "line 1: not FROM image AS name"),
        ("RUN a", "line 1: RUN before the first FROM"),
    ],
)
def test_a_line_that_is_not_understood(text: str, problem: str) -> None:
    with pytest.raises(DockerfileError, match=problem):
        Dockerfile.parse(text)


def test_an_entry_point_needs_the_exec_form() -> None:
    stage = Dockerfile.parse("FROM a AS b\nENTRYPOINT python").stages["b"]
    with pytest.raises(DockerfileError, match="line 2: ENTRYPOINT is not a JSON list"):
        stage.instructions[0].program()


def test_the_context_leaves_out_ignored_files(tmp_path: Path) -> None:
    for name in ("a/x.py", "a/__pycache__/x.pyc", "b/y.py", "b/z.sh", "secret"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    ignore = tmp_path / ".dockerignore"
    ignore.write_text("# text\n**\n!a\n!b/*.sh\n**/__pycache__\n")
    context = Context.read(tmp_path, ignore)
    found = [str(name) for source in ("a", "b", "secret") for name in context.files(source)]
    assert found == ["a/x.py", "b/z.sh"]


def test_the_lock_of_the_sidecar_has_what_it_imports() -> None:
    """And at the versions of the lock of all."""
    sidecar, runtime = _locked("sidecar"), _locked("runtime")
    assert {name: version for name, version in sidecar.items() if runtime.get(name, version) != version} == {}
    packages = packages_distributions()
    missing = {
        module
        for package in ("sidecar", "protos")
        for file in (ROOT / package).rglob("*.py")
        if not file.name.endswith("_pb2_grpc.py")  # the control plane's
        for module in _imports(file)
        if module in packages and not {_normal(name) for name in packages[module]} & {*sidecar, "outrigger"}
    }
    assert missing == set()


def _locked(name: str) -> dict[str, str]:
    """The versions by package."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {_normal(name): version for name, version in re.findall(r"^(\S+)==(\S+)", text, re.MULTILINE)}


def _imports(file: Path) -> set[str]:
    """The top-level modules that it imports, without those of the standard library."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
    return {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
