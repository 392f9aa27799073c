"""Text -> syntax tree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from outrigger.installation.template.errors import TemplateError
from outrigger.installation.template.nodes import Block, Call, Expression, Literal, Node, Output, Path, Text

_ACTION: Final = re.compile(r"\{\{(-(?=\s))?\s*(/\*.*?\*/|.*?)\s*((?<=\s)-)?\}\}", re.DOTALL)
_TOKEN: Final = re.compile(
    r"""\s*(?:
    (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<integer>-?\d+)(?!\w)
    | (?P<path>\$(?![\w])(?:\.\w+)* | (?:\.[A-Za-z_]\w*)+ | \.(?!\w))
    | (?P<name>[A-Za-z]\w*)
    | (?P<symbol>[|()])
    )""",
    re.VERBOSE,
)
_BLOCKS: Final = frozenset({"if", "with", "range", "define"})
_WHITESPACE: Final = " \t\r\n"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class _Action:
    line: int
    tokens: tuple[_Token, ...]

    @property
    def keyword(self) -> str:
        first = self.tokens[0]
        return first.text if first.kind == "name" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """``defined`` are the templates that it defines, by name."""

    nodes: tuple[Node, ...]
    defined: Mapping[str, tuple[Node, ...]]


def parse(name: str, text: str) -> Template:
    """Raises `TemplateError`. ``name`` is for its message."""
    return _Parser(name, text).parse()


class _Parser:
    def __init__(self, name: str, text: str) -> None:
        self._name: Final = name
        self._defined: Final[dict[str, tuple[Node, ...]]] = {}
        self._parts: Final = self._split(text)
        self._line = 1

    def parse(self) -> Template:
        nodes, end = self._body()
        if end is not None:
            raise self._error(f"{{{{ {end.keyword} }}}} without a block")
        return Template(nodes=nodes, defined=self._defined)

    def _body(self) -> tuple[tuple[Node, ...], _Action | None]:
        """The nodes up to the next `end` or `else`, which is returned, too."""
        nodes: list[Node] = []
        for part in self._parts:
            if isinstance(part, str):
                nodes.append(Text(part))
                continue
            self._line = part.line
            if part.keyword in ("end", "else"):
                return tuple(nodes), part
            if part.keyword == "define":
                self._define(part)
            elif part.keyword in _BLOCKS:
                nodes.append(self._block(part, part.tokens))
            else:
                nodes.append(Output(self._expression(part.tokens), part.line))
        return tuple(nodes), None

    def _block(self, start: _Action, tokens: tuple[_Token, ...]) -> Block:
        expression = self._expression(tokens[1:])
        body, end = self._body()
        otherwise: tuple[Node, ...] = ()
        if end is not None and end.keyword == "else":
            if end.tokens[1:]:  # `else if`: the one `end` ends both
                inner = self._block(end, end.tokens[1:])
                return Block(tokens[0].text, expression, start.line, body, (inner,))
            otherwise, end = self._body()
        self._require_end(start, end)
        return Block(tokens[0].text, expression, start.line, body, otherwise)

    def _define(self, start: _Action) -> None:
        if [token.kind for token in start.tokens[1:]] != ["string"]:
            raise self._error("`define` needs a name in quotes")
        body, end = self._body()
        self._require_end(start, end)
        self._defined[json.loads(start.tokens[1].text)] = body

    def _require_end(self, start: _Action, end: _Action | None) -> None:
        if end is None or end.keyword != "end":
            self._line = start.line
            raise self._error(f"`{start.keyword}` has no `end`")

    def _expression(self, tokens: tuple[_Token, ...]) -> Expression:
        pending = list(reversed(tokens))
        expression = self._pipeline(pending)
        if pending:
            raise self._error(f"unexpected {pending[-1].text!r}")
        return expression

    def _pipeline(self, pending: list[_Token]) -> Expression:
        expression = self._command(pending, None)
        while pending and pending[-1].text == "|":
            pending.pop()
            expression = self._command(pending, expression)
        return expression

    def _command(self, pending: list[_Token], piped: Expression | None) -> Expression:
        """A function with its arguments, of which a piped value is the last; or a value alone."""
        if pending and pending[-1].kind == "name" and pending[-1].text not in ("true", "false"):
            function, arguments = pending.pop().text, []
            while pending and pending[-1].text not in ("|", ")"):
                arguments.append(self._operand(pending))
            return Call(function, (*arguments, piped) if piped is not None else tuple(arguments))
        if piped is not None:
            raise self._error("a value is piped to something that is not a function")
        return self._operand(pending)

    def _operand(self, pending: list[_Token]) -> Expression:
        if not pending:
            raise self._error("a value is missing")
        token = pending.pop()
        if token.text == "(":
            expression = self._pipeline(pending)
            if not pending or pending.pop().text != ")":
                raise self._error("a `)` is missing")
            return expression
        match token.kind:
            case "string":
                return Literal(json.loads(token.text))
            case "integer":
                return Literal(int(token.text))
            case "path":
                names = token.text.removeprefix("$").split(".")
                return Path(token.text.startswith("$"), tuple(filter(None, names)))
            case "name" if token.text in ("true", "false"):
                return Literal(token.text == "true")
        raise self._error(f"unexpected {token.text!r}")

    def _split(self, text: str) -> Iterator[str | _Action]:
        """Texts, trimmed as their neighbours say, and actions without comments."""
        position, trim = 0, False
        for found in _ACTION.finditer(text):
            before = text[position : found.start()]
            yield _trimmed(before, left=trim, right=found[1] is not None)
            position, trim = found.end(), found[3] is not None
            line = text.count("\n", 0, found.start()) + 1
            if not found[2].startswith("/*"):
                yield _Action(line, self._tokens(found[2], line))
        if "{{" in text[position:]:
            self._line = text.count("\n", 0, text.index("{{", position)) + 1
            raise self._error("`{{` has no `}}`")
        yield _trimmed(text[position:], left=trim, right=False)

    def _tokens(self, text: str, line: int) -> tuple[_Token, ...]:
        tokens, position = [], 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                self._line = line
                raise self._error(f"{text[position:].strip()!r} is not supported")
            tokens.append(_Token(found.lastgroup, found[found.lastgroup]))
            position = found.end()
        if not tokens:
            self._line = line
            raise self._error("the action is empty")
        return tuple(tokens)

    def _error(self, reason: str) -> TemplateError:
        return TemplateError(f"{self._name}:{self._line}: {reason}")


def _trimmed(text: str, *, left: bool, right: bool) -> str:
    text = text.lstrip(_WHITESPACE) if left else text
    return text.rstrip(_WHITESPACE) if right else text
