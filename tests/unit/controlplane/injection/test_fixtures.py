"""Injects each fixture, once and twice. `UPDATE_GOLDEN=1` writes the results."""

from __future__ import annotations

import os

import pytest

from controlplane.yaml_documents import read_documents
from tests.support.injection_fixtures import FIXTURES, Fixture


def values(text: str) -> list[object]:
    return [document.value for document in read_documents(text)]


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture.name)
def test_a_fixture_is_injected_as_recorded(fixture: Fixture) -> None:
    injected = fixture.inject(fixture.input)
    if os.environ.get("UPDATE_GOLDEN"):
        fixture.result.write_text(injected)
    assert injected == fixture.result.read_text(), "see UPDATE_GOLDEN in docs/development.md"


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture.name)
def test_a_second_injection_changes_nothing(fixture: Fixture) -> None:
    once = fixture.inject(fixture.input)
    assert values(fixture.inject(once)) == values(once)
