"""The examples and the lists of `docs/injection.md`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controlplane.injection.config import InjectionConfig
from controlplane.model.proxy_config import ProxyConfig
from controlplane.yaml_documents import read_documents
from tests.support.injection import injection
from tests.support.injection_fixtures import FIXTURES

_TEXT = Path("docs/injection.md").read_text()


def test_the_example_of_a_configuration_is_valid() -> None:
    [example] = [text for text in re.findall(r"```yaml\n(.*?)```", _TEXT, re.DOTALL) if "policy:" in text]
    assert InjectionConfig.parse(example).policy == "enabled"


def test_the_example_of_a_customized_container_is_injected() -> None:
    [example] = [text for text in re.findall(r"```yaml\n(.*?)```", _TEXT, re.DOTALL) if "image: auto" in text]
    [document] = read_documents(example)
    assert injection(document.value).injected


@pytest.mark.parametrize("field", [field.alias for field in ProxyConfig.model_fields.values()])
def test_every_supported_field_of_proxy_config_is_documented(field: str) -> None:
    assert f"`{field}" in _TEXT


def test_every_annotation_of_the_fixtures_is_documented() -> None:
    found = {
        name
        for fixture in FIXTURES
        for name in re.findall(r"^ +([a-z.]*istio\.io/[A-Za-z-]+):", fixture.input, re.MULTILINE)
    }
    supported = found - {"sidecar.istio.io/statsInclusionPrefixes", "sidecar.istio.io/proxyCpu"}
    missing = {name for name in supported if f"{name.rpartition('/')[2]}`" not in _TEXT and name not in _TEXT}
    assert len(supported) > 20
    assert missing == set()
