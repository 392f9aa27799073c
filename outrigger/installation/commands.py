"""`outrigger install`, `outrigger upgrade` and `outrigger uninstall`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from outrigger.cluster.access import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    RevisionOption,
    connected,
)
from outrigger.errors import CommandError

if TYPE_CHECKING:
    from controlplane.kubernetes.api import ClientApi

_SYSTEM_NAMESPACE: Final = "outrigger-system"
_DEFAULT_REVISION: Final = "default"

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A value of the chart, as in Helm.")
]
FileOption = Annotated[
    list[Path] | None, typer.Option("--values", "-f", metavar="FILE", help="A YAML file of values.")
]
ResetOption = Annotated[
    bool, typer.Option("--reset-values", help="Forget the values of the earlier installation.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Ask the API server what would change, and change nothing.")
]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the control plane is ready.")]
TimeoutOption = Annotated[str, typer.Option(help="The longest time to wait, such as 90s or 5m.")]
PurgeOption = Annotated[
    bool,
    typer.Option(
        "--purge",
        help="Also delete the key of the CA, and Outrigger's CRDs with all resources of their kinds.",
    ),
]


def installing(*, only_upgrade: bool) -> Callable[..., None]:
    """Returns the function of the command `install`, or of `upgrade`, which has the same options."""

    def run(
        kubeconfig: KubeconfigOption = None,
        context: ContextOption = None,
        namespace: NamespaceOption = _SYSTEM_NAMESPACE,
        revision: RevisionOption = _DEFAULT_REVISION,
        set_: SetOption = None,
        values: FileOption = None,
        reset_values: ResetOption = False,
        dry_run: DryRunOption = False,
        wait: WaitOption = True,
        timeout: TimeoutOption = "5m",
    ) -> None:
        from outrigger.installation.chart import Chart, Release
        from outrigger.installation.installer import Installation, install
        from outrigger.installation.values import given_values

        wanted = Installation(
            namespace=namespace,
            revision=revision,
            given=given_values(values or (), set_ or ()),
            reset_values=reset_values,
            dry_run=dry_run,
            wait_s=_seconds(timeout) if wait else None,
            only_upgrade=only_upgrade,
        )
        chart = Chart()
        _with_cluster(kubeconfig, context, lambda api: install(api, wanted, print, chart))
        if not dry_run:
            release = Release(name="outrigger", namespace=namespace, service="outrigger")
            print(chart.notes(release, {"revision": revision}))

    return run


def uninstall(
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = _SYSTEM_NAMESPACE,
    revision: RevisionOption = _DEFAULT_REVISION,
    purge: PurgeOption = False,
    dry_run: DryRunOption = False,
    timeout: TimeoutOption = "5m",
) -> None:
    """Remove the control plane, and everything that it created in any namespace but the key of its CA."""
    from outrigger.installation import removal

    wanted = removal.Removal(
        namespace=namespace, revision=revision, purge=purge, dry_run=dry_run, timeout_s=_seconds(timeout)
    )

    _with_cluster(kubeconfig, context, lambda api: removal.uninstall(api, wanted, print))


def _with_cluster(
    kubeconfig: Path | None, context: str | None, act: Callable[[ClientApi], Awaitable[None]]
) -> None:
    async def story() -> None:
        async with connected(kubeconfig, context) as api:
            await act(api)

    asyncio.run(story())


def _seconds(text: str) -> float:
    from controlplane.resources.base import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise CommandError(f"--timeout: {error}") from error
