"""The operator's command. Each subcommand is a module. Slow imports happen when a command runs."""

from __future__ import annotations

import sys

import typer

from controlplane.errors import ControlPlaneError
from outrigger import certificate, token
from outrigger.bootstrap import bootstrap
from outrigger.check.command import check
from outrigger.crds import crds
from outrigger.demo.command import demo
from outrigger.errors import CommandError
from outrigger.inject import inject
from outrigger.installation.commands import installing, uninstall
from sidecar.build_info import BUILD
from sidecar.errors import SidecarError

app = typer.Typer(
    name="outrigger",
    help="A service mesh that you can read, extend and test in Python.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(bootstrap)
app.command()(crds)
app.command()(inject)
app.command(
    "install",
    help="Install the control plane in a cluster, or change an installation. Repeating it changes nothing.",
)(installing(only_upgrade=False))
app.command(
    "upgrade",
    help="Upgrade an installation to the version of this command. Keeps its values, unless they are given.",
)(installing(only_upgrade=True))
app.command()(uninstall)
app.command()(check)


@app.command()
def version() -> None:
    """Print the version, and whether the sidecar's data path is compiled."""
    print(f"outrigger {BUILD}")


app.add_typer(token.app, name="token")
app.add_typer(certificate.app, name="certificate")


def main() -> None:
    """Runs the command. A usage error exits with code 2, any other error prints one line and exits with code
    1."""
    try:
        app()
    except (CommandError, ControlPlaneError, SidecarError) as error:
        sys.exit(f"outrigger: {error}")


if __name__ == "__main__":
    main()
