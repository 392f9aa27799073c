"""Forms that mypyc compiles to something else than Python does: see docs/development.md."""

from __future__ import annotations

import ast
from pathlib import Path

from sidecar import errors
from tests.support.builds import compiled_modules

ROOT = Path(__file__).parents[3]
TREES = {name: ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text()) for name in compiled_modules()}


def test_no_bound_of_a_slice_has_an_effect() -> None:
    """A call in it may be carried out twice: a write to a file was. A call without effects may stay."""
    effects = {"next", "pop", "popleft", "read", "recv", "send", "write"}
    found = [
        (name, ast.unparse(part))
        for name, tree in TREES.items()
        for part in ast.walk(tree)
        if isinstance(part, ast.Slice)
        for call in ast.walk(part)
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in effects
    ]
    assert found == []


def test_handlers_of_one_function_name_their_errors_differently() -> None:
    """The type of the first one is that of all: another error of ours would be a TypeError."""
    found = []
    for module, tree in TREES.items():
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            first: dict[str, set[str]] = {}
            for handler in ast.walk(function):
                if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type is not None:
                    kinds = {ast.unparse(kind) for kind in getattr(handler.type, "elts", [handler.type])}
                    if (
                        first.setdefault(handler.name, kinds) != kinds
                        and first[handler.name] & vars(errors).keys()
                    ):
                        found.append((module, function.name, handler.name))
    assert found == []
