"""`outrigger inject`: adds sidecars to the workloads of YAML files, without a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outrigger.errors import CommandError

if TYPE_CHECKING:
    from controlplane.injection.config import InjectionConfig
    from controlplane.model.mesh_config import MeshConfig

_STANDARD_INPUT = Path("-")


def inject(
    filename: Annotated[
        Path, typer.Option("--filename", "-f", help="The file with the workloads; - reads standard input.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The output file, instead of standard output.")
    ] = None,
    injection_config: Annotated[
        Path | None,
        typer.Option(
            help="The injection configuration: the key `config` of the ConfigMap outrigger-sidecar-injector."
        ),
    ] = None,
    mesh_config: Annotated[
        Path | None,
        typer.Option(help="The mesh configuration: the key `mesh` of the ConfigMap outrigger."),
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="The namespace of workloads without one.")
    ] = "default",
    revision: Annotated[
        str, typer.Option("--revision", "-r", help="The revision of the control plane.")
    ] = "default",
    native_sidecars: Annotated[
        bool,
        typer.Option(
            "--native-sidecars/--no-native-sidecars",
            help="Whether every node has Kubernetes 1.33 or newer.",
        ),
    ] = True,
) -> None:
    """Add sidecars to the workloads of a file. Other documents are printed unchanged."""
    from outrigger.injected_documents import Injector

    injector = Injector(
        config=_injection_config(injection_config),
        mesh_config=_mesh_config(mesh_config),
        namespace=namespace,
        revision=revision,
        native_sidecars=native_sidecars,
        warn=lambda text: print(f"outrigger: {text}", file=sys.stderr),
    )
    injected = injector.inject(_read(filename), str(filename))
    if output is None:
        sys.stdout.buffer.write(injected.encode())
        return
    try:
        output.write_bytes(injected.encode())
    except OSError as error:
        raise CommandError(f"cannot write {output}: {error.strerror}") from error


def _injection_config(path: Path | None) -> InjectionConfig:
    from controlplane.errors import SettingsError
    from controlplane.injection.config import InjectionConfig

    if path is None:
        return InjectionConfig()
    try:
        return InjectionConfig.parse(_read(path))
    except SettingsError as error:
        raise CommandError(f"{path}: {error}") from error


def _mesh_config(path: Path | None) -> MeshConfig:
    from controlplane.mesh_config_file import load_mesh_config
    from controlplane.model.mesh_config import MeshConfig

    return MeshConfig() if path is None else load_mesh_config(path)


def _read(path: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if path == _STANDARD_INPUT else path.read_bytes()
        return content.decode()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
