from __future__ import annotations

import pytest

from tests.bench.load.generator import ROOT
from tests.bench.proxies.build import find_build, interpreter


def test_the_sources_of_this_checkout_are_imported_from_it_only() -> None:
    found = find_build("python")
    assert found.environment == {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    assert find_build(f"python@{ROOT}").environment == found.environment


@pytest.mark.parametrize("name", ["fast", "python@/", "", "@"])
def test_another_word_or_a_folder_without_a_sidecar_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a build"):
        find_build(name)


def test_the_interpreter_is_named_with_its_optimisation() -> None:
    assert interpreter().startswith("CPython 3.")
    assert "profile-guided" in interpreter()
