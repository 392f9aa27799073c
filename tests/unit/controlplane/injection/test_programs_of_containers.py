"""The programs of the injected containers accept the flags and variables of every fixture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.yaml_documents import read_documents
from protos import node
from sidecar.agent.settings import parse_agent_arguments
from sidecar.bootstrap import parse_arguments
from sidecar.intercept.flags import parse as parse_interception
from sidecar.xds.decode import decode_bootstrap
from tests.support.injection import environment, expanded
from tests.support.injection_fixtures import FIXTURES

_POD = {
    "POD_NAME": "web-5d8f7c-x2x4z",
    "POD_NAMESPACE": "shop",
    "INSTANCE_IP": "10.0.0.7",
    "HOST_IP": "10.1.0.1",
    "SERVICE_ACCOUNT": "web",
    "NODE_NAME": "node-1",
    "POD_LABEL_APP": "web",
    "POD_LABEL_VERSION": "",
    "POD_LABEL_CANONICAL_NAME": "shop",
    "POD_LABEL_CANONICAL_REVISION": "v1",
}


def pods(value: Any) -> Iterator[Any]:
    """Yields the pods and pod templates in an object."""
    if isinstance(value, dict) and "containers" in (value.get("spec") or {}):
        yield value
    elif isinstance(value, (dict, list)):
        for child in value.values() if isinstance(value, dict) else value:
            yield from pods(child)


def containers(*names: str) -> list[Any]:
    """Returns the containers of these names with our images and programs, each with its pod."""
    return [
        pytest.param(pod, container, id=f"{fixture.name}-{container['name']}")
        for fixture in FIXTURES
        for document in read_documents(fixture.result.read_text())
        for pod in pods(document.value)
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
        if container["name"] in names
        if re.search("/sidecar(-debug)?:", container["image"]) and container.get("command") != ["/own"]
    ]


@pytest.mark.parametrize(("pod", "container"), containers("outrigger-init", "outrigger-validation"))
def test_the_init_program_accepts_its_flags(pod: Any, container: Any) -> None:
    parse_interception(container["args"])


@pytest.mark.parametrize(("pod", "container"), containers("outrigger-sidecar"))
def test_the_sidecar_accepts_its_flags_and_its_bootstrap(pod: Any, container: Any) -> None:
    variables = {name: expanded(value, _POD) for name, value in environment(pod).items()}
    settings = parse_arguments(container["args"], variables)
    warnings: list[str] = []
    document = next(iter(read_documents(settings.config_yaml))).value
    bootstrap = decode_bootstrap(document, warn=warnings.append)
    assert bootstrap.node_id.split("~")[1:] == [
        "10.0.0.7",
        "web-5d8f7c-x2x4z.shop",
        "shop.svc.cluster.local",
    ]
    assert bootstrap.node_metadata["SERVICE_ACCOUNT"] == "web"
    assert bootstrap.node_metadata["LABELS"] == {
        "app": "web",
        "version": "",
        "service.istio.io/canonical-name": "shop",
        "service.istio.io/canonical-revision": "v1",
    }
    assert bootstrap.ads is not None
    assert bootstrap.ads.tls is not None


@pytest.mark.parametrize(("pod", "container"), containers("outrigger-agent"))
def test_the_agent_of_an_envoy_accepts_its_flags_and_the_bootstrap_of_envoy(pod: Any, container: Any) -> None:
    variables = {name: expanded(value, _POD) for name, value in environment(pod, container["name"]).items()}
    parsed = parse_agent_arguments(container["args"], variables)
    assert str(parsed.identity_dir) == parsed.bootstrap.node_metadata[node.IDENTITY_DIR]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts[str(parsed.identity_dir)] == "outrigger-identity"
