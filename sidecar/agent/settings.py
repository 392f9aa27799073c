"""The command line of the agent, and the parts of Envoy's bootstrap document that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sidecar.command_line import Flags, add_identity_flags, add_pod_flags, add_process_flags
from sidecar.config.bootstrap import Bootstrap, Settings
from sidecar.config.endpoint import SocketAddress
from sidecar.errors import BootstrapError
from sidecar.yaml_document import parse_document

_SOURCE: Final = "--config-yaml"
_ADMIN_PORT: Final = 15000


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """``bootstrap`` has only the node and Envoy's admin address."""

    settings: Settings
    bootstrap: Bootstrap
    identity_dir: Path


def parse_agent_arguments(argv: Sequence[str], environ: Mapping[str, str]) -> AgentSettings:
    """As `sidecar.bootstrap.parse_arguments`. Raises `BootstrapError`."""
    flags = Flags("python -m sidecar.agent", "The agent beside an Envoy in a pod of the mesh.", environ)
    flags.add("--config-yaml", default="", help="Envoy's bootstrap document")
    flags.add("--identity-dir", type=Path, help="the folder in which the certificate for Envoy is stored")
    add_process_flags(flags)
    add_identity_flags(flags)
    add_pod_flags(flags)
    values = flags.parse(argv)
    identity_dir = values.pop("identity_dir")
    settings = Settings(**values)
    if identity_dir is None or not settings.config_yaml or not settings.ca_address:
        raise BootstrapError("--config-yaml, --identity-dir and --ca-address are required")
    return AgentSettings(
        settings=settings,
        bootstrap=_bootstrap(parse_document(settings.config_yaml.encode(), _SOURCE)),
        identity_dir=identity_dir.absolute(),
    )


def _bootstrap(document: Mapping[str, Any]) -> Bootstrap:
    """Envoy checks the rest of the document."""
    node = _object(document.get("node"), "node")
    admin = _object(document.get("admin"), "admin")
    address = _object(admin.get("address"), "admin.address")
    socket = _object(address.get("socket_address"), "admin.address.socket_address")
    port = socket.get("port_value", _ADMIN_PORT)
    if type(port) is not int or not 0 < port < 2**16:
        raise BootstrapError(f"{_SOURCE}: admin.address.socket_address.port_value: invalid port {port!r}")
    return Bootstrap(
        node_id=str(node.get("id", "")),
        node_metadata=_object(node.get("metadata"), "node.metadata"),
        admin_address=SocketAddress("127.0.0.1", port),
    )


def _object(value: object, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise BootstrapError(f"{_SOURCE}: {field}: should be a mapping")
