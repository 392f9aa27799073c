"""The options that say which cluster, and the connection to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from outrigger.errors import CommandError

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

_DEFAULT_KUBECONFIG: Final = Path("~/.kube/config").expanduser()

KubeconfigOption = Annotated[
    Path | None,
    typer.Option(envvar="KUBECONFIG", help="The kubeconfig: by default ~/.kube/config, or the pod's own."),
]
ContextOption = Annotated[str | None, typer.Option(help="The context of the kubeconfig.")]
NamespaceOption = Annotated[
    str, typer.Option("--namespace", "-n", help="The namespace of the control plane.")
]
RevisionOption = Annotated[
    str, typer.Option(help="The revision of the control plane: the value of the label istio.io/rev.")
]


@asynccontextmanager
async def connected(kubeconfig: Path | None, context: str | None) -> AsyncIterator[ClientApi]:
    """A client of the cluster. An API server that cannot be reached becomes a `CommandError`, also inside of
    the block. Raises `SettingsError` for an invalid kubeconfig."""
    from controlplane.errors import UnreachableError
    from controlplane.kubernetes.api import ClientApi

    if kubeconfig is None and (_DEFAULT_KUBECONFIG.exists() or "KUBERNETES_SERVICE_HOST" not in os.environ):
        kubeconfig = _DEFAULT_KUBECONFIG
    api = await ClientApi.connect(kubeconfig, context)
    try:
        yield api
    except UnreachableError as error:
        raise CommandError(f"the API server cannot be reached: {error}") from error
    finally:
        await api.close()
