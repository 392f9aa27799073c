"""Everything that the control plane makes of the resources that it supports is taken: by the real Envoy, by
the sidecar from the same bootstrap file, and by gRPC's own client."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import Template
from typing import Any, get_args

import pytest
import yaml

from controlplane.kinds.registry import KINDS
from controlplane.resources.base import Message
from controlplane.resources.deprecation import Deprecated
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.following_envoy import following_envoy, identity, names_of_dump, printed_bootstrap
from tests.support.following_grpc import following_grpc_client
from tests.support.json_api import get_json
from tests.support.mesh_folder import MeshFolder
from tests.support.processes import child, free_port

WORLD = Path(__file__).with_name("every_field.yaml")


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


every_proxy = pytest.mark.parametrize(
    ("capture", "variant"), list(product(("none", "iptables", "default"), ("--delta", "--sotw")))
)


def options(capture: str, variant: str) -> list[str]:
    """The world has a `Sidecar` resource for each label ``capture`` but ``default``."""
    labels = ["--label", "app=reviews", "--label", "version=v1", "--label", f"capture={capture}"]
    return [variant, *labels, "--interception", "NONE" if capture == "none" else "REDIRECT"]


def sent_to(plane: RunningControlPlane, workload: str) -> dict[str, set[str]]:
    [node] = {each["proxy"] for each in plane.debug_json("/debug/syncz") if each["workload"] == workload}
    sent = names_of_dump(plane.debug_json(f"/debug/config_dump?proxy={node}"))
    assert all(sent.values()), "something of each type"
    return sent


def has_in_force(admin_port: int, sent: dict[str, set[str]]) -> bool:
    held = names_of_dump(get_json(f"127.0.0.1:{admin_port}", "/config_dump?include_eds"))
    # The endpoints of clusters that have their own in them are listed too.
    return held | {"eds": held["eds"] & sent["eds"]} == sent


@every_proxy
def test_envoy_acknowledges_everything_and_warns_of_nothing(mesh: Mesh, capture: str, variant: str) -> None:
    workload = f"envoy-{capture}{variant}"
    with following_envoy(
        mesh.plane, mesh.identity_dir, workload, *options(capture, variant), namespace="bookinfo"
    ) as envoy:
        sent = sent_to(mesh.plane, workload)
        envoy.process.wait_for(lambda: has_in_force(envoy.admin_port, sent), "what was sent is in force")
        assert not any(envoy.stats("update_rejected|update_failure|listener_create_failure").values())
        assert envoy.stats("^control_plane.connected_state$") == {"control_plane.connected_state": 1}
        assert envoy.complaints() == []
        assert mesh.plane.synced(workload)


@every_proxy
def test_the_sidecar_acknowledges_everything_and_warns_of_nothing(
    mesh: Mesh, capture: str, variant: str
) -> None:
    workload = f"sidecar-{capture}{variant}"
    bootstrap = printed_bootstrap(
        mesh.plane, mesh.identity_dir, workload, *options(capture, variant), namespace="bookinfo"
    )
    command = [sys.executable, "-m", "sidecar", "-c", bootstrap.path, "--log-level", "warning"]
    command += ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
    with child(command, bootstrap.path.with_suffix(".log")) as sidecar:
        sidecar.wait_for(lambda: mesh.plane.synced(workload), "everything is acknowledged")
        sent = sent_to(mesh.plane, workload)
        sidecar.wait_for(lambda: has_in_force(bootstrap.admin_port, sent), "what was sent is in force")
        assert sidecar.output == ""


@pytest.mark.parametrize("port", [9080, 9090, 9999])
def test_grpcs_own_client_acknowledges_everything(mesh: Mesh, tmp_path: Path, port: int) -> None:
    """Ports with routes for HTTP of every kind, without any of their own, and with routes for TCP."""
    target = f"reviews.bookinfo.svc.cluster.local:{port}"
    following = following_grpc_client(mesh.plane, tmp_path, f"grpc-{port}", target, namespace="bookinfo")
    with following as client:
        client.wait_for(lambda: mesh.plane.synced(f"grpc-{port}"), "everything is acknowledged")


# --- the world is what it says to be


def supported_fields(model: type[Message], seen: set[type[Message]]) -> set[tuple[str, str]]:
    """Every field of a model, and of the models in it, as pairs of the model's name and the field's."""
    if model in seen:
        return set()
    seen.add(model)
    found = set()
    for name, field in model.model_fields.items():
        # Annotated None: not supported yet; excluded: Kubernetes' own fields, which are not read; deprecated:
        # the world's resources have no warnings.
        deprecated = any(isinstance(mark, Deprecated) for mark in field.metadata)
        if field.annotation is type(None) or field.exclude or deprecated:
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
    resources = [KINDS.parse(document) for document in yaml.safe_load_all(world())]
    assert {resource.kind for resource in resources} == KINDS.keys()
    used = set().union(*(used_fields(resource.spec) for resource in resources))
    seen: set[type[Message]] = set()
    supported = set().union(*(supported_fields(kind.spec, seen) for kind in KINDS.values()))
    assert supported - used == set()
