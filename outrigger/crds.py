"""`outrigger crds`: prints the CustomResourceDefinitions, writes them to files, or installs them in a
cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from outrigger.cluster.access import ContextOption, KubeconfigOption, connected
from outrigger.errors import CommandError


def crds(
    directory: Annotated[
        Path | None,
        typer.Option(help="Write one file for each CRD into this folder instead of printing them."),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Install the CRDs in a cluster. Keeps CRDs of other products.")
    ] = False,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Print or install the CustomResourceDefinitions of all supported kinds."""
    if install and directory is not None:
        raise CommandError("--install and --directory cannot be combined")
    if install:
        asyncio.run(_install(kubeconfig, context))
        return
    if directory is None:
        print("---\n".join(crd_files().values()), end="")
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in crd_files().items():
            (directory / name).write_text(text)
    except OSError as error:
        raise CommandError(f"--directory: {error}") from error


async def _install(kubeconfig: Path | None, context: str | None) -> None:
    from outrigger.crd_installation import install

    async with connected(kubeconfig, context) as api:
        async for done in install(api):
            print(done)


def crd_files() -> dict[str, str]:
    """Returns the CRDs as YAML, by file name, such as `networking.istio.io_virtualservices.yaml`."""
    from controlplane.kinds.registry import KINDS
    from controlplane.resources import crds as resources

    return {
        f"{crd['spec']['group']}_{crd['spec']['names']['plural']}.yaml": _yaml(crd)
        for crd in resources.crds(KINDS.values())
    }


def _yaml(document: dict[str, Any]) -> str:
    import yaml

    class WithoutAliases(yaml.SafeDumper):
        """The versions of a CRD share one schema. It is repeated instead of aliased, so that the files are
        easy to read and compare."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(document, Dumper=WithoutAliases, sort_keys=False, width=110, allow_unicode=True)
