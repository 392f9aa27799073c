"""The processes in a container: its own, and those of hooks and probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.support.node_agent.privileges import Privileges

ENV = "/usr/bin/env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """`folder` is where it starts."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    privileges: Privileges

    def command_line(self) -> list[str]:
        """Runs it with its own environment whatever that of the caller is; killed when its parent ends."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        started = self.privileges.command_line(self.argv)
        return [ENV, "-i", f"--chdir={self.folder}", *variables, *started]
