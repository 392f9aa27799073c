"""Reads a Dockerfile: the part of its language that deploy/docker/Dockerfile uses. Anything else is an error,
so that no check can pass over a line that it does not understand."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

_FLAG: Final = re.compile(r"--([a-z]+)=(\S+)\s+")
_KEYWORDS: Final = {
    "ARG",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "FROM",
    "LABEL",
    "RUN",
    "STOPSIGNAL",
    "USER",
    "WORKDIR",
}
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class DockerfileError(Exception):
    """The line and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """``RUN --a=b c`` has the keyword ``RUN``, the flags ``{"a": "b"}`` and the value ``c``. ``line`` is the
    number of its first line."""

    line: int
    keyword: str
    flags: Mapping[str, str]
    value: str

    def words(self) -> list[str]:
        return shlex.split(self.value)

    def program(self) -> list[str]:
        """The words of an ENTRYPOINT in its exec form, a JSON list."""
        try:
            words = json.loads(self.value)
        except ValueError:
            words = None
        if not isinstance(words, list):
            raise DockerfileError(f"line {self.line}: {self.keyword} is not a JSON list")
        return [str(word) for word in words]

    def pairs(self) -> dict[str, str]:
        """The variables of an ENV or a LABEL."""
        return dict(word.split("=", 1) for word in self.words())


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """``FROM base AS name``. ``base`` is an image, ``scratch`` or the name of an earlier stage."""

    line: int
    name: str
    base: str
    flags: Mapping[str, str]
    instructions: tuple[Instruction, ...]

    def last(self, keyword: str) -> Instruction | None:
        found = [each for each in self.instructions if each.keyword == keyword]
        return found[-1] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """``arguments`` are the ARGs before the first stage."""

    arguments: Mapping[str, str]
    stages: Mapping[str, Stage]

    @classmethod
    def parse(cls, text: str) -> Dockerfile:
        """Raises `DockerfileError`."""
        arguments: dict[str, str] = {}
        stages: dict[str, Stage] = {}
        opened: tuple[Instruction, list[Instruction]] | None = None
        for instruction in _instructions(text):
            if instruction.keyword == "FROM":
                if opened is not None:
                    _close(stages, arguments, *opened)
                opened = (instruction, [])
            elif opened is not None:
                opened[1].append(instruction)
            elif instruction.keyword == "ARG":
                name, _, default = instruction.value.partition("=")
                arguments[name] = default
            else:
                raise DockerfileError(f"line {instruction.line}: {instruction.keyword} before the first FROM")
        if opened is not None:
            _close(stages, arguments, *opened)
        return cls(arguments=arguments, stages=stages)

    def lineage(self, name: str) -> list[Stage]:
        """The stage, and before it those that it is made FROM; the first is made from an image."""
        stage = self.stages[name]
        return [*(self.lineage(stage.base) if stage.base in self.stages else []), stage]


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Raises `KeyError` for an unknown variable."""
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], text)


def _close(
    stages: dict[str, Stage], arguments: Mapping[str, str], opening: Instruction, body: list[Instruction]
) -> None:
    base, as_word, name = opening.words() if len(opening.words()) == 3 else ("", "", "")
    if as_word != "AS":
        raise DockerfileError(f"line {opening.line}: not FROM image AS name")
    stages[name] = Stage(
        line=opening.line,
        name=name,
        base=substituted(base, arguments),
        flags=opening.flags,
        instructions=tuple(body),
    )


def _instructions(text: str) -> list[Instruction]:
    found, pending, first = [], "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or not (line.strip() or pending):
            continue
        first = first if pending else number
        if line.endswith("\\"):
            pending += f"{line[:-1]} "
            continue
        found.append(_instruction(first, pending + line))
        pending = ""
    return found


def _instruction(line: int, text: str) -> Instruction:
    keyword, _, value = text.strip().partition(" ")
    if keyword not in _KEYWORDS:
        raise DockerfileError(f"line {line}: {keyword} is not supported")
    flags = {}
    value = value.strip()
    while found := _FLAG.match(value):
        flags[found[1]] = found[2]
        value = value[found.end() :]
    return Instruction(line=line, keyword=keyword, flags=flags, value=value)


@dataclass(frozen=True, slots=True)
class Context:
    """The folder whose files COPY reads, without those that the file .dockerignore excludes."""

    folder: Path
    ignored: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, ignore_file: Path) -> Context:
        lines = (line.strip() for line in ignore_file.read_text().splitlines())
        return cls(folder, tuple(line for line in lines if line and not line.startswith("#")))

    def files(self, source: str) -> list[Path]:
        """The files and links at or below a path or a pattern, relative to the context, in order."""
        found: set[Path] = set()
        for match in self.folder.glob(source):
            found.update([match] if not match.is_dir() or match.is_symlink() else match.rglob("*"))
        names = (path.relative_to(self.folder) for path in found if not path.is_dir() or path.is_symlink())
        return sorted(name for name in names if not self._is_ignored(name))

    def _is_ignored(self, name: Path) -> bool:
        """The last pattern that matches the file or a folder above it decides."""
        ignored = False
        for line in self.ignored:
            pattern = line.removeprefix("!")
            if any(_matches(str(part), pattern) for part in (name, *name.parents)):
                ignored = not line.startswith("!")
        return ignored


def _matches(name: str, pattern: str) -> bool:
    if pattern == "**":
        return name != "."
    if pattern.startswith("**/"):
        return fnmatchcase(name.rpartition("/")[2], pattern[3:])
    return fnmatchcase(name, pattern) and name.count("/") == pattern.count("/")
