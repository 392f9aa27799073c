"""`outrigger install`, `outrigger upgrade` and `outrigger uninstall`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer

from outrigger.cluster.access import (
    ContextOption,
    KubeconfigOption,
    NamespaceOption,
    RevisionOption,
    connected,
)
from outrigger.errors import CommandError

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


def install(
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
    """Install the control plane in a cluster, or change an installation. Repeating it changes nothing."""
    _install(
        kubeconfig, context, namespace, revision, set_, values, reset_values, dry_run, wait, timeout, False
    )


def upgrade(
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
    """Upgrade an installation to the version of this command. Keeps its values, unless they are given."""
    _install(
        kubeconfig, context, namespace, revision, set_, values, reset_values, dry_run, wait, timeout, True
    )


def _install(
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    revision: str,
    settings: list[str] | None,
    files: list[Path] | None,
    reset_values: bool,
    dry_run: bool,
    wait: bool,
    timeout: str,
    only_upgrade: bool,
) -> None:
    from outrigger.installation.chart import Chart, Release
    from outrigger.installation.installer import Installation
    from outrigger.installation.installer import install as run
    from outrigger.installation.values import given_values

    wanted = Installation(
        namespace=namespace,
        revision=revision,
        given=given_values(files or (), settings or ()),
        reset_values=reset_values,
        dry_run=dry_run,
        wait_s=_seconds(timeout) if wait else None,
        only_upgrade=only_upgrade,
    )
    chart = Chart()

    async def story() -> None:
        async with connected(kubeconfig, context) as api:
            await run(api, wanted, print, chart)

    asyncio.run(story())
    if not dry_run:
        release = Release(name="outrigger", namespace=namespace, service="outrigger")
        print(chart.notes(release, {"revision": revision}))


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
    from outrigger.installation.removal import Removal
    from outrigger.installation.removal import uninstall as run

    wanted = Removal(
        namespace=namespace, revision=revision, purge=purge, dry_run=dry_run, timeout_s=_seconds(timeout)
    )

    async def story() -> None:
        async with connected(kubeconfig, context) as api:
            await run(api, wanted, print)

    asyncio.run(story())


def _seconds(text: str) -> float:
    from controlplane.resources.base import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise CommandError(f"--timeout: {error}") from error
