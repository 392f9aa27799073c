"""`outrigger bootstrap`: prints the bootstrap file of one proxy."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from controlplane.injection.bootstrap_document import Address, Bootstrap
from controlplane.model.proxy import InterceptionMode
from outrigger.errors import CommandError
from protos import node


class OutputFormat(StrEnum):
    YAML = "yaml"
    JSON = "json"


def bootstrap(
    *,
    xds_address: Annotated[
        str, typer.Option(help="The address of the control plane's xDS server, HOST:PORT.")
    ],
    node_id: Annotated[
        str, typer.Option("--node", help="The full node id, instead of --name, --namespace and --ip.")
    ] = "",
    name: Annotated[str, typer.Option(help="The workload's name.")] = "",
    namespace: Annotated[str, typer.Option(help="The workload's namespace.")] = "default",
    ip: Annotated[str, typer.Option(help="The workload's address.")] = "127.0.0.1",
    service_account: Annotated[str, typer.Option(help="The workload's service account.")] = "default",
    label: Annotated[
        list[str] | None, typer.Option(help="A label of the workload, KEY=VALUE. Can be repeated.")
    ] = None,
    ca_cert: Annotated[
        Path | None,
        typer.Option(help="The roots for the control plane's certificate. Without it, xDS uses plaintext."),
    ] = None,
    identity_dir: Annotated[
        Path | None, typer.Option(help="For Envoy: the output folder of `outrigger certificate request`.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="For Envoy over TLS: the token, which is written into the bootstrap file."),
    ] = None,
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="The admin port, on 127.0.0.1.")] = 15000,
    http_proxy_port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="The port of this proxy's HTTP proxy; 0 means the mesh's default."
        ),
    ] = 0,
    interception: Annotated[
        InterceptionMode, typer.Option(help="How connections reach the proxy.")
    ] = InterceptionMode.REDIRECT,
    delta: Annotated[
        bool, typer.Option("--delta/--sotw", help="Incremental or state-of-the-world xDS.")
    ] = True,
    output: Annotated[OutputFormat, typer.Option("--format", help="The output format.")] = OutputFormat.YAML,
) -> None:
    """Print the bootstrap file of one proxy, for `envoy -c FILE` or `python -m sidecar -c FILE`."""
    document = Bootstrap(
        node_id=_node_id(node_id, name, namespace, ip),
        xds_address=Address.parse(xds_address),
        ca_certificate=ca_cert and ca_cert.absolute(),
        service_account=service_account,
        labels=_labels(label or []),
        admin_port=admin_port,
        http_proxy_port=http_proxy_port,
        interception=interception,
        delta=delta,
        identity_dir=identity_dir and identity_dir.absolute(),
        token=read_token(token_file) if token_file else "",
    ).document()
    if output is OutputFormat.JSON:
        import json

        print(json.dumps(document, indent=2))
    else:
        import yaml

        print(yaml.safe_dump(document, sort_keys=False), end="")


def read_token(path: Path) -> str:
    """Reads a token file. Raises `CommandError`."""
    try:
        return path.read_text("ascii").strip()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} does not contain a token: {error}") from error


def _node_id(whole: str, name: str, namespace: str, ip: str) -> node.NodeId:
    if bool(whole) == bool(name):
        raise CommandError("exactly one of --node and --name is required")
    if not whole:
        domain = f"{namespace}.svc.cluster.local"
        return node.NodeId(proxy_type="sidecar", ip=ip, workload=name, namespace=namespace, dns_domain=domain)
    try:
        return node.NodeId.parse(whole)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _labels(pairs: list[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not key or not separator:
            raise CommandError(f"--label {pair!r}: expected KEY=VALUE")
        labels[key] = value
    return labels
