"""`outrigger crds`: the CustomResourceDefinitions, for `kubectl apply` or as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from outrigger.errors import CommandError


def crds(
    directory: Annotated[
        Path | None, typer.Option(help="Write a file for each into this folder instead of printing them.")
    ] = None,
) -> None:
    """Print the CustomResourceDefinitions of all kinds, ready for `kubectl apply --filename -`."""
    if directory is None:
        print("---\n".join(crd_files().values()), end="")
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in crd_files().items():
            (directory / name).write_text(text)
    except OSError as error:
        raise CommandError(f"--directory: {error}") from error


def crd_files() -> dict[str, str]:
    """By the file's name: `networking.istio.io_virtualservices.yaml` and its siblings."""
    from controlplane.resources import crds as resources

    return {
        f"{crd['spec']['group']}_{crd['spec']['names']['plural']}.yaml": _yaml(crd)
        for crd in resources.crds()
    }


def _yaml(document: dict[str, Any]) -> str:
    import yaml

    class WithoutAliases(yaml.SafeDumper):
        """The versions share their schema; an alias in its place would be hard to read and to compare."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(document, Dumper=WithoutAliases, sort_keys=False, width=110, allow_unicode=True)
