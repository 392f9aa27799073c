"""The sidecar refuses the same files as Envoy, with an error that names the field."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import ConfigError
from sidecar.xds.decode import decode_bootstrap
from tests.support.envoy import envoy_command
from tests.support.envoy_config import (
    bootstrap,
    changed,
    dns_cluster,
)
from tests.support.invalid_bootstraps import INVALID, STRICTER


def refusal(document: dict[str, Any]) -> ConfigError | None:
    try:
        decode_bootstrap(document, warn=lambda text: None)
    except ConfigError as error:
        return error
    return None


def envoy_accepts(document: dict[str, Any], folder: Path) -> tuple[bool, str]:
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(document))
    command = envoy_command(path, "--mode", "validate")
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return result.returncode == 0, result.stderr


def test_the_file_that_the_others_are_made_from_is_accepted_by_both(tmp_path: Path) -> None:
    accepted, words = envoy_accepts(bootstrap(), tmp_path)
    assert accepted, words
    assert refusal(bootstrap()) is None


def names_of(cases: list[tuple[str, object, str]]) -> list[str]:
    return [f"{case[0].rpartition('.')[2]}-{number}" for number, case in enumerate(cases)]


@pytest.mark.parametrize(("path", "value", "where"), INVALID, ids=names_of(INVALID))
def test_a_file_that_envoy_refuses_is_refused_with_the_field_named(
    path: str, value: object, where: str, tmp_path: Path
) -> None:
    document = bootstrap()
    document["static_resources"]["clusters"].append(dns_cluster("named", type="LOGICAL_DNS"))
    document = changed(document, path, value)

    error = refusal(document)
    assert error is not None
    assert error.path.startswith(where or path)
    accepted, _ = envoy_accepts(document, tmp_path)
    assert not accepted


@pytest.mark.parametrize(("path", "value", "where"), STRICTER, ids=names_of(STRICTER))
def test_mistakes_that_envoy_lets_pass_are_refused_too(path: str, value: object, where: str) -> None:
    error = refusal(changed(bootstrap(), path, value))

    assert error is not None
    assert error.path.startswith(where or path)
