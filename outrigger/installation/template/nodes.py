"""The syntax tree of a template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class Path:
    """The fields ``names`` of the dot or, if ``of_root``, of `$`."""

    of_root: bool
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple[Expression, ...]


Expression: TypeAlias = Literal | Path | Call


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Output:
    expression: Expression
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """``keyword`` is `if`, `with` or `range`. An `else if` is an `if` inside of ``otherwise``."""

    keyword: str
    expression: Expression
    line: int
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


Node: TypeAlias = Text | Output | Block
