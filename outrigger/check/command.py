"""`outrigger check`. The exit code is 0 without problems (warnings do not count), 1 with problems, and 2 for
a usage error."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from enum import Enum
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

if TYPE_CHECKING:
    from outrigger.check.finding import Finding

_SYSTEM_NAMESPACE: Final = "outrigger-system"
_DEFAULT_REVISION: Final = "default"


class Output(Enum):
    TABLE = "table"
    JSON = "json"


def check(
    pre: Annotated[bool, typer.Option("--pre", help="Check whether it can be installed.")] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = _SYSTEM_NAMESPACE,
    revision: RevisionOption = _DEFAULT_REVISION,
    output: Annotated[Output, typer.Option("--output", "-o", help="The format.")] = Output.TABLE,
) -> None:
    """Check a cluster, and the mesh in it. The exit code is 1 if a problem is found."""
    findings = asyncio.run(_findings(kubeconfig, context, namespace, revision, pre=pre))
    if output is Output.JSON:
        documents = [{**asdict(each), "state": each.state.value} for each in findings]
        print(json.dumps(documents, indent=2))
    else:
        for line in lines(findings, colours=sys.stdout.isatty()):
            print(line)
    if any(each.state.value == "problem" for each in findings):
        raise typer.Exit(1)


async def _findings(
    kubeconfig: Path | None, context: str | None, namespace: str, revision: str, *, pre: bool
) -> list[Finding]:
    from outrigger.check import control_plane, mesh
    from outrigger.check.prerequisites import api_server, crds, prerequisites
    from outrigger.installation.chart import Chart

    async with connected(kubeconfig, context) as api:
        if pre:
            return [each async for each in prerequisites(api, namespace, revision)]
        checks = (
            api_server(api),
            crds(api),
            control_plane.deployment(api, namespace, revision),
            control_plane.authority(api, namespace),
            control_plane.webhooks(api, namespace, revision),
            mesh.proxies(api, namespace, revision, Chart().version),
            mesh.unmeshed(api, namespace, revision),
            mesh.resources(api),
        )
        return [finding for each in checks async for finding in each]


def lines(findings: Iterable[Finding], *, colours: bool) -> list[str]:
    """A table: the state, the check, the object and the message."""
    listed = list(findings)
    width = max((len(each.check) for each in listed), default=0)
    shown = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "problem": typer.colors.RED}
    table = []
    for each in listed:
        state = f"{each.state.value:<7}"
        if colours:
            state = typer.style(state, fg=shown[each.state.value])
        subject = f"{each.subject}: " if each.subject else ""
        table.append(f"{state}  {each.check:<{width}}  {subject}{each.message}")
    return table
