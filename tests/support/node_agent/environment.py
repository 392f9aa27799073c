"""A container's environment variables and command line.

Of the variables that tell where Services are it has those of the API server alone: the others have names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.downward import PodIdentity
from tests.support.node_agent.objects import MissingError, PodObjects

# `$(NAME)` is replaced where NAME is known; `$$` is a plain `$`, so `$$(NAME)` stays `$(NAME)`.
REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
API_SERVER = {
    "KUBERNETES_SERVICE_HOST": "10.96.0.1",
    "KUBERNETES_SERVICE_PORT": "443",
    "KUBERNETES_SERVICE_PORT_HTTPS": "443",
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ROOTS = {"HOME": "/root"}


async def environment(
    container: Resource, identity: PodIdentity, objects: PodObjects, image: Mapping[str, str] = ROOTS
) -> dict[str, str]:
    """In the order of precedence: the `image`'s variables, the node's own, `envFrom`, `env`.

    Raises MissingError, DownwardError and KubernetesError.
    """
    hostname = identity.pod["spec"].get("hostname") or identity.pod["metadata"]["name"]
    found = {"PATH": PATH, **image, "HOSTNAME": hostname, **API_SERVER}
    for source in container.get("envFrom", ()):
        values = await all_of(source, objects)
        found |= {source.get("prefix", "") + key: value.decode() for key, value in values.items()}
    for variable in container.get("env", ()):
        if "valueFrom" not in variable:
            found[variable["name"]] = expand(variable.get("value", ""), found)
            continue
        value = await value_from(variable["valueFrom"], container["name"], identity, objects)
        if value is not None:
            found[variable["name"]] = value
    return found


async def all_of(source: Resource, objects: PodObjects) -> dict[str, bytes]:
    if reference := source.get("configMapRef"):
        return await objects.config_map(reference["name"], optional=reference.get("optional", False))
    reference = source["secretRef"]
    return await objects.secret(reference["name"], optional=reference.get("optional", False))


async def value_from(
    source: Resource, container: str, identity: PodIdentity, objects: PodObjects
) -> str | None:
    """None for an optional key that is not there."""
    if reference := source.get("fieldRef"):
        return identity.field(reference["fieldPath"])
    if reference := source.get("resourceFieldRef"):
        return identity.resource(reference, container)
    if reference := source.get("configMapKeyRef"):
        return one_of(await objects.config_map(reference["name"], optional=is_optional(reference)), reference)
    if reference := source.get("secretKeyRef"):
        return one_of(await objects.secret(reference["name"], optional=is_optional(reference)), reference)
    raise MissingError(f"valueFrom: this node does not know {', '.join(source)}")


def is_optional(reference: Resource) -> bool:
    return bool(reference.get("optional"))


def one_of(values: Mapping[str, bytes], reference: Resource) -> str | None:
    key = reference["key"]
    if key in values:
        return values[key].decode()
    if is_optional(reference):
        return None
    raise MissingError(f"couldn't find key {key!r} in {reference['name']!r}")


def command_line(container: Resource, image: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """The container's `command`, or else that of its image; then its `args`."""
    command, args = (
        [expand(word, variables) for word in container.get(key, ())] for key in ("command", "args")
    )
    return [*(command or image), *args]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """A reference to an unknown variable stays as it is."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] is None else variables.get(match[1], match[0])

    return REFERENCE.sub(value, text)
