from __future__ import annotations

import pytest

from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource
from tests.support.node_agent.downward import DownwardError, PodIdentity
from tests.support.node_agent.environment import command_line, environment, expand
from tests.support.node_agent.objects import MissingError, PodObjects

POD = {
    "metadata": {"name": "web-0", "namespace": "shop", "uid": "u", "labels": {"app": 'a"b'}},
    "spec": {
        "serviceAccountName": "web",
        "containers": [{"name": "main", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}}}],
    },
}
IDENTITY = PodIdentity(
    pod=POD, node="n", host_address="10.0.0.1", address="10.0.0.3", capacity={"cpu": "4", "memory": "1Gi"}
)


class FakeApi(KubernetesApi):
    """Has objects by their path; while it is `away` every request fails."""

    def __init__(self, objects: dict[str, Resource]) -> None:
        self.objects = objects
        self.away = False

    async def get(self, path: str) -> Resource:
        if self.away:
            raise ConnectionRefusedError
        if path not in self.objects:
            raise KubernetesError(404, f"{path} not found")
        return self.objects[path]


@pytest.fixture
def api() -> FakeApi:
    path = "/api/v1/namespaces/shop"
    config_map = {"data": {"colour": "red"}, "binaryData": {"raw": "AAE="}}
    return FakeApi(
        {f"{path}/configmaps/settings": config_map, f"{path}/secrets/keys": {"data": {"k": "dg=="}}}
    )


@pytest.fixture
def objects(api: FakeApi) -> PodObjects:
    return PodObjects(api, "shop")


def with_env(*variables: Resource, **fields: object) -> Resource:
    return {"name": "main", "env": list(variables), **fields}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A) and $(B)", "1 and $(B)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
    ],
)
def test_references_to_variables_are_expanded(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


def test_args_follow_the_image_and_a_command_takes_its_place() -> None:
    image = ["python", "-m"]
    assert command_line({"args": ["$(A)"]}, image, {"A": "web"}) == ["python", "-m", "web"]
    assert command_line({"command": ["sh"], "args": ["-c"]}, image, {}) == ["sh", "-c"]
    assert command_line({}, image, {}) == image


async def test_variables_refer_to_those_before_them(objects: PodObjects) -> None:
    container = with_env({"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C"})
    found = await environment(container, IDENTITY, objects)
    assert (found["B"], found["C"]) == ("1$(C)", "")
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"


async def test_env_counts_before_env_from(objects: PodObjects) -> None:
    env_from = [{"configMapRef": {"name": "settings"}}, {"prefix": "S_", "secretRef": {"name": "keys"}}]
    container = with_env({"name": "colour", "value": "blue"}, envFrom=env_from)
    found = await environment(container, IDENTITY, objects)
    assert (found["colour"], found["S_k"]) == ("blue", "v")


async def test_a_missing_object_is_named_unless_it_is_optional(objects: PodObjects) -> None:
    def variable(**reference: object) -> Resource:
        return with_env({"name": "A", "valueFrom": {"configMapKeyRef": reference}})

    with pytest.raises(MissingError, match="configmap 'none' not found"):
        await environment(variable(name="none", key="k"), IDENTITY, objects)
    with pytest.raises(MissingError, match="couldn't find key 'k' in 'settings'"):
        await environment(variable(name="settings", key="k"), IDENTITY, objects)
    assert "A" not in await environment(variable(name="none", key="k", optional=True), IDENTITY, objects)


async def test_objects_stay_unchanged_while_the_api_server_is_unreachable(
    api: FakeApi, objects: PodObjects
) -> None:
    before = await objects.config_map("settings")
    assert before == {"colour": b"red", "raw": b"\0\1"}
    api.away = True
    assert await objects.config_map("settings") == before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web-0"),
        ("metadata.labels['app']", 'a"b'),
        ("metadata.labels", 'app="a\\"b"'),
        ("metadata.annotations['none']", ""),
        ("spec.serviceAccountName", "web"),
        ("status.podIP", "10.0.0.3"),
        ("status.hostIP", "10.0.0.1"),
    ],
)
def test_a_pod_knows_itself(path: str, value: str) -> None:
    assert IDENTITY.field(path) == value


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", "1", "2"),
        ("limits.cpu", "1m", "1500"),
        ("limits.memory", "1Mi", "64"),
        ("requests.cpu", "1", "0"),
        ("limits.memory", "0", "67108864"),
    ],
)
def test_a_resource_is_given_in_units_of_its_divisor_rounded_up(
    resource: str, divisor: str, value: str
) -> None:
    assert IDENTITY.resource({"resource": resource, "divisor": divisor}, "main") == value


def test_a_container_without_a_limit_has_the_nodes() -> None:
    bare = {**POD, "spec": {"containers": [{"name": "main"}]}}
    identity = PodIdentity(
        pod=bare, node="n", host_address="", address="", capacity={"cpu": "4", "memory": "1Gi"}
    )
    assert identity.resource({"resource": "limits.memory", "divisor": "1Mi"}, "main") == "1024"


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(DownwardError, match=r"unknown fieldPath 'spec\.colour'"):
        IDENTITY.field("spec.colour")
    with pytest.raises(DownwardError, match="no container 'other'"):
        IDENTITY.resource({"resource": "limits.cpu", "containerName": "other"}, "main")
    with pytest.raises(DownwardError, match="not a quantity: '1x'"):
        IDENTITY.resource({"resource": "limits.cpu", "divisor": "1x"}, "main")
