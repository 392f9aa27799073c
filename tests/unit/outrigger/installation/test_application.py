"""What a dry run shows."""

from __future__ import annotations

from typing import Any

import pytest

from outrigger.installation.application import differences


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 -> 2"]),
        ({}, {"a": 1}, ["a is added"]),
        ({"a": 1}, {}, ["a is removed"]),
        ({"a": [{"b": 1}, {"b": 1}]}, {"a": [{"b": 1}, {"b": 2}]}, ["a[1].b: 1 -> 2"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a: [1] -> [1, 2]"]),
        ({"metadata": {"generation": 1}}, {"metadata": {"generation": 2}}, []),
    ],
)
def test_the_fields_that_differ_are_named(before: Any, after: Any, shown: list[str]) -> None:
    assert list(differences(before, after)) == shown
