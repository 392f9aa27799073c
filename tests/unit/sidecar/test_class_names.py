from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import sidecar


def test_each_class_of_the_data_plane_has_a_name_of_its_own() -> None:
    modules: dict[str, list[str]] = defaultdict(list)
    root = Path(sidecar.__file__).parent
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                modules[node.name].append(str(file.relative_to(root)))
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}
