"""The CRDs of the chart match the models and the output of the command.

After a change of the models, run this module with ``UPDATE_GOLDEN=1`` in the environment, or ``make crds``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from controlplane.kinds.registry import KINDS
from controlplane.resources.crds import crds
from outrigger.__main__ import app
from outrigger.errors import CommandError

DEPLOYED = Path(__file__).resolve().parents[3] / "deploy" / "charts" / "outrigger" / "crds"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["crds", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_deploy_crds_is_up_to_date(tmp_path: Path) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        run("--directory", str(DEPLOYED))
    run("--directory", str(tmp_path / "crds"))
    assert contents(tmp_path / "crds") == contents(DEPLOYED), "run `make crds`"


def test_each_file_is_named_for_its_kind() -> None:
    for name, text in contents(DEPLOYED).items():
        plural, _, group = yaml.safe_load(text)["metadata"]["name"].partition(".")
        assert name == f"{group}_{plural}.yaml"


def test_all_are_printed_as_one_stream() -> None:
    assert list(yaml.safe_load_all(run())) == crds(KINDS.values())


def test_the_printed_text_has_no_aliases() -> None:
    assert not [event for event in yaml.parse(run()) if isinstance(event, yaml.AliasEvent)]


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="--directory: "):
        run("--directory", str(tmp_path / "file"))
