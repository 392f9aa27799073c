"""docs/kubernetes.md contains the pod and the Sidecar with which Bookinfo is tested in a cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.bookinfo_pods import deployment, sidecar_resource

DOC = Path(__file__).resolve().parents[3] / "docs" / "kubernetes.md"
SHOWN = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL)]


@pytest.fixture
def proved() -> dict[str, Any]:
    spec: dict[str, Any] = deployment("reviews-v1", "reviews", "v1")["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def shown() -> dict[str, Any]:
    spec: dict[str, Any] = SHOWN[0]["spec"]
    return spec


def test_the_sidecar_container_is_the_tested_one(shown: dict[str, Any], proved: dict[str, Any]) -> None:
    assert shown["initContainers"][1] == proved["initContainers"][1]
    assert shown["volumes"] == proved["volumes"]


def test_so_is_its_bootstrap(shown: dict[str, Any], proved: dict[str, Any]) -> None:
    container, tested = shown["initContainers"][0], proved["initContainers"][0]
    account = "--service-account bookinfo-reviews"
    assert [word.split() for word in container["command"]] == [
        word.replace(account, "--service-account reviews").split() for word in tested["command"]
    ]
    assert container["env"] == [each for each in tested["env"] if each["name"] != "PATH"]


def test_so_is_the_applications_environment(shown: dict[str, Any], proved: dict[str, Any]) -> None:
    application, tested = shown["containers"][0], proved["containers"][0]
    assert application["lifecycle"] == tested["lifecycle"]
    assert all(variable in tested["env"] for variable in application["env"])


def test_the_sidecar_resource_is_the_tested_one() -> None:
    assert SHOWN[1] == sidecar_resource()
