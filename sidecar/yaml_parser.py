"""Parses one YAML document. Errors name the line."""

from __future__ import annotations

from typing import Any

import yaml

from sidecar.errors import BootstrapError


class _Loader(yaml.CSafeLoader):
    """Refuses duplicate keys, of which PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in keys:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(content: bytes, source: str) -> Any:
    """Raises `BootstrapError` that names ``source``."""
    try:
        return yaml.load(content, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise BootstrapError(f"{source}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return f"invalid YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
