"""Syntax tree and values -> text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from outrigger.installation.template.errors import TemplateError
from outrigger.installation.template.functions import FUNCTIONS, to_text
from outrigger.installation.template.nodes import Block, Expression, Literal, Node, Output, Path, Text
from outrigger.installation.template.parser import parse

_DEEPEST: Final = 100  # includes


class Renderer:
    """Renders the templates of a chart, which can include each other's definitions. ``sources`` are their
    texts by name."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        """Raises `TemplateError` for a template that cannot be parsed."""
        self._templates: Final = {name: parse(name, text) for name, text in sources.items()}
        self._defined: Final = {
            name: nodes for template in self._templates.values() for name, nodes in template.defined.items()
        }

    def render(self, name: str, data: Mapping[str, Any]) -> str:
        """Raises `TemplateError` for values with which the template fails."""
        return _Rendering(name, self._defined, data).text(self._templates[name].nodes, data)


class _Rendering:
    """One template with its data. ``root`` is `$`."""

    def __init__(self, name: str, defined: Mapping[str, tuple[Node, ...]], root: Any, depth: int = 0) -> None:
        self._name: Final = name
        self._defined: Final = defined
        self._root: Final = root
        self._depth: Final = depth
        self._line = 0

    def text(self, nodes: Iterable[Node], dot: Any) -> str:
        return "".join(self._node(node, dot) for node in nodes)

    def _node(self, node: Node, dot: Any) -> str:
        if isinstance(node, Text):
            return node.text
        self._line = node.line
        value = self._evaluate(node.expression, dot)
        if isinstance(node, Output):
            try:
                return to_text(value)
            except ValueError as error:
                raise self._error(str(error)) from error
        return self._block(node, value, dot)

    def _block(self, block: Block, value: Any, dot: Any) -> str:
        if not value:
            return self.text(block.otherwise, dot)
        if block.keyword == "range":
            items = [value[key] for key in sorted(value)] if isinstance(value, Mapping) else value
            return "".join(self.text(block.body, item) for item in items)
        return self.text(block.body, value if block.keyword == "with" else dot)

    def _evaluate(self, expression: Expression, dot: Any) -> Any:
        match expression:
            case Literal(value):
                return value
            case Path(of_root, names):
                return self._field(self._root if of_root else dot, names)
        arguments = expression.arguments
        match expression.function:
            case "and" | "or" as function:  # they stop at the first argument that decides
                value = None
                for each in arguments:
                    value = self._evaluate(each, dot)
                    if bool(value) == (function == "or"):
                        break
                return value
            case "include":
                return self._include(*(self._evaluate(each, dot) for each in arguments))
        return self._call(expression.function, [self._evaluate(each, dot) for each in arguments])

    def _field(self, value: Any, names: tuple[str, ...]) -> Any:
        for name in names:
            if not isinstance(value, Mapping):
                raise self._error(f".{'.'.join(names)}: there is no mapping with the key {name!r}")
            value = value.get(name)
        return value

    def _call(self, function: str, arguments: list[Any]) -> Any:
        if function not in FUNCTIONS:
            raise self._error(f"the function {function!r} is not supported")
        try:
            return FUNCTIONS[function](*arguments)
        except (TypeError, ValueError, AttributeError, StopIteration) as error:
            raise self._error(f"{function}: {error}") from error

    def _include(self, name: str, dot: Any) -> str:
        if name not in self._defined:
            raise self._error(f"no template defines {name!r}")
        if self._depth == _DEEPEST:
            raise self._error(f"{name!r} includes itself")
        included = _Rendering(name, self._defined, dot, self._depth + 1)
        return included.text(self._defined[name], dot)

    def _error(self, reason: str) -> TemplateError:
        return TemplateError(f"{self._name}:{self._line}: {reason}")
