"""The real Envoy takes everything that the control plane can make of the resources that it supports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, get_args

import pytest
import yaml

from controlplane.resources.base import Message
from controlplane.resources.registry import KINDS, parse_resource
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.following_envoy import following_envoy, identity, names_of_dump
from tests.support.mesh_folder import MeshFolder
from tests.support.processes import free_port

WORLD = Path(__file__).with_name("every_field.yaml")
VARIANTS = ("--delta", "--sotw")


def world(identity_dir: Path | str = "/identity", ingress_port: int = 19080) -> str:
    return Template(WORLD.read_text()).substitute(identity=identity_dir, ingress_port=ingress_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    plane: RunningControlPlane
    identity_dir: Path


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("plane")
    mesh_config = folder / "mesh.yaml"
    ports = {"proxyListenPort": free_port(), "proxyInboundListenPort": free_port()}
    mesh_config.write_text(yaml.safe_dump(ports))
    resources = MeshFolder(folder / "mesh")
    with control_plane(resources.path, folder / "state", "--mesh-config", str(mesh_config)) as running:
        files = identity(running, folder / "identity", "bookinfo", "productpage")
        resources.write_text("world", world(files, free_port()))
        running.process.wait_for(lambda: bool(running.debug_json("/debug/registryz")), "the world is read")
        yield Mesh(plane=running, identity_dir=files)


def test_every_resource_of_the_world_is_applied(mesh: Mesh) -> None:
    resources = mesh.plane.debug_json("/debug/statusz")["resources"]
    assert [each for each in resources if each["state"] != "APPLIED" or each["reasons"]] == []


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("capture", ["none", "iptables", "default"])
def test_envoy_acknowledges_everything_and_warns_of_nothing(mesh: Mesh, capture: str, variant: str) -> None:
    """With the two `Sidecar` resources, by the label ``capture``, and without any."""
    plane = mesh.plane
    workload = f"reviews-{capture}-{variant.strip('-')}"
    options = [variant, "--label", "app=reviews", "--label", "version=v1", "--label", f"capture={capture}"]
    options += ["--interception", "NONE" if capture == "none" else "REDIRECT"]
    with following_envoy(plane, mesh.identity_dir, workload, *options, namespace="bookinfo") as envoy:
        [node] = {each["proxy"] for each in plane.debug_json("/debug/syncz") if each["workload"] == workload}
        sent = names_of_dump(plane.debug_json(f"/debug/config_dump?proxy={node}"))

        def everything_is_in_force() -> bool:
            held = envoy.in_force()
            # Envoy lists the endpoints of DNS clusters too; those came within their clusters.
            return held | {"eds": held["eds"] & sent["eds"]} == sent

        envoy.process.wait_for(everything_is_in_force, "what was sent is in force")
        assert all(sent.values())
        assert not any(envoy.stats("update_rejected|update_failure").values())
        assert envoy.stats("^listener_manager.listener_create_failure$|^control_plane.connected_state$") == {
            "listener_manager.listener_create_failure": 0,
            "control_plane.connected_state": 1,
        }
        assert envoy.complaints() == []
        assert plane.synced(workload)


# --- the world is what it says to be


def supported_fields(model: type[Message], seen: set[type[Message]]) -> set[tuple[str, str]]:
    """Every field of a model, and of the models in it, as pairs of the model's name and the field's."""
    if model in seen:
        return set()
    seen.add(model)
    found = set()
    for name, field in model.model_fields.items():
        # Annotated None: not supported yet; excluded: Kubernetes' own, read by nobody.
        if field.annotation is type(None) or field.exclude:
            continue
        found.add((model.__name__, name))
        for inner in messages_in(field.annotation):
            found |= supported_fields(inner, seen)
    return found


def messages_in(annotation: Any) -> Iterator[type[Message]]:
    if isinstance(annotation, type) and issubclass(annotation, Message):
        yield annotation
    for argument in get_args(annotation):
        yield from messages_in(argument)


def used_fields(value: object) -> set[tuple[str, str]]:
    """The fields that a parsed resource sets."""
    if isinstance(value, dict):
        return set().union(*map(used_fields, value.values()))
    if isinstance(value, tuple):
        return set().union(*map(used_fields, value))
    if not isinstance(value, Message):
        return set()
    inner = (used_fields(getattr(value, name)) for name in value.model_fields_set)
    return {(type(value).__name__, name) for name in value.model_fields_set}.union(*inner)


def test_the_world_uses_every_supported_field_of_every_kind() -> None:
    resources = [parse_resource(document) for document in yaml.safe_load_all(world())]
    assert {resource.kind for resource in resources} == KINDS.keys()
    used = set().union(*(used_fields(resource.spec) for resource in resources))
    seen: set[type[Message]] = set()
    supported = set().union(*(supported_fields(kind.model, seen) for kind in KINDS.values()))
    assert supported - used == set()
