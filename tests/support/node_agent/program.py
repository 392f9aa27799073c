"""The processes in a container: its own, and those of hooks and probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ENV, SETPRIV = "/usr/bin/env", "/usr/bin/setpriv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """`folder` is where it starts; `user` and `group` are None for root."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: str = "/"
    user: int | None = None
    group: int | None = None

    def command_line(self) -> list[str]:
        """Runs it with its own environment whatever that of the caller is; killed when its parent ends."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        return [ENV, "-i", f"--chdir={self.folder}", *variables, *self._identity(), *self.argv]

    def _identity(self) -> list[str]:
        if self.user is None and self.group is None:
            return []
        ids = [f"--reuid={self.user or 0}", f"--regid={self.group or 0}", "--clear-groups"]
        # Changing the user resets the signal at the parent's end.
        return [SETPRIV, *ids, "--pdeathsig=KILL", "--"]


def identity_of(pod_spec: Mapping[str, Any], container: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Its user and group: the container's `securityContext` counts before the pod's."""
    context = pod_spec.get("securityContext", {}) | container.get("securityContext", {})
    return context.get("runAsUser"), context.get("runAsGroup")
