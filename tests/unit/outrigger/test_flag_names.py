"""A flag, and its OUTRIGGER_ variable, has one meaning in the control plane, the sidecar and `outrigger`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer.main
from typer.core import TyperCommand, TyperGroup

from controlplane.settings import read_settings
from outrigger.__main__ import app
from sidecar.bootstrap import parse_arguments


def test_processes_share_only_flags_with_the_same_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    shared = control_plane_flags(capsys) & sidecar_flags(capsys)
    assert shared == {"--addresses-file", "--log-level", "--metrics-port", "--trust-domain"}


def test_the_command_and_the_control_plane_share_only_flags_with_the_same_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shared = command_flags() & control_plane_flags(capsys)
    assert shared == {"--injection-config", "--kubeconfig", "--mesh-config", "--revision", "--state-dir"}


def test_the_command_and_the_sidecar_share_only_flags_with_the_same_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command_flags() & sidecar_flags(capsys) == {"--ca-address", "--ca-cert", "--token-file"}


def control_plane_flags(capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        read_settings(["--help"], {})
    return flags_in(capsys.readouterr().out)


def sidecar_flags(capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        parse_arguments(["--help"], {})
    return flags_in(capsys.readouterr().out)


def flags_in(help_text: str) -> set[str]:
    """Returns the flags in the help text of argparse: the lines that start with a flag."""
    return set(re.findall(r"^  (?=-).*?(--[a-z-]+)", help_text, re.MULTILINE)) - {"--help"}


def command_flags() -> set[str]:
    return set(flags_of(typer.main.get_command(app)))


def flags_of(command: object) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            yield from flags_of(each)
    if isinstance(command, TyperCommand):
        yield from (flag for parameter in command.params for flag in parameter.opts)
