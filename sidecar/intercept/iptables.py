"""Runs the programs of iptables. Two variants, ``nft`` and ``legacy``, do not see each other's rules."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Final

from sidecar.intercept.errors import InterceptError
from sidecar.intercept.rules import Family
from sidecar.intercept.saved import SavedRules, parse
from sidecar.intercept.settings import Variant

_TIMEOUT_S: Final = 30
_LOCK_FOLDER: Final = "/run"
_LOCK_WAIT_S: Final = 10
_CAPABILITIES: Final = {"NET_ADMIN": 12, "NET_RAW": 13}  # linux/capability.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Iptables:
    """One variant for one address family. ``variant`` is part of the names of the programs: ``-nft``,
    ``-legacy``, or empty where only the unnamed programs exist."""

    family: Family
    variant: str

    @property
    def name(self) -> str:
        return f"{self.family.program}{self.variant}"

    def save(self) -> SavedRules:
        """Raises `InterceptError`."""
        return parse(run(f"{self.name}-save"))

    def restore(self, text: str) -> None:
        """Applies the text as a whole for each table, and keeps all other rules. Raises `InterceptError`."""
        if text:
            run(f"{self.name}-restore", "--noflush", "--wait", str(_LOCK_WAIT_S), text=text)


def installed(family: Family, variant: Variant) -> list[Iptables]:
    """The installed variants, the preferred one first. Raises `InterceptError` if there is none."""
    names = {Variant.AUTO: ["-nft", "-legacy"], Variant.NFT: ["-nft"], Variant.LEGACY: ["-legacy"]}[variant]
    found = [
        Iptables(family=family, variant=name) for name in names if _exists(f"{family.program}{name}-save")
    ]
    if not found and variant is Variant.AUTO and _exists(f"{family.program}-save"):
        found = [Iptables(family=family, variant="")]
    if not found:
        wanted = " or ".join(f"{family.program}{name}-save" for name in names)
        raise InterceptError(f"{wanted} is not installed: the image needs iptables")
    return found


def require_capabilities() -> None:
    """Raises `InterceptError` that names a missing capability."""
    effective = 0
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                effective = int(line.split()[1], 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        raise InterceptError(
            f"missing capability {' and '.join(missing)} (uid {os.geteuid()}): "
            "the container's securityContext must add it, and run it as user 0"
        )


def run(*command: str, text: str = "") -> str:
    """The command's output. Raises `InterceptError` with its first lines of error output."""
    environment = dict(os.environ)
    if not os.access(_LOCK_FOLDER, os.W_OK):  # a read-only root file system: nobody else locks here
        environment.setdefault("XTABLES_LOCKFILE", os.devnull)
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=environment,
        )
    except FileNotFoundError as error:
        raise InterceptError(f"{command[0]} is not installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InterceptError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise InterceptError(f"{' '.join(command)} failed: {reason:.500}")
    return done.stdout


def _exists(program: str) -> bool:
    return shutil.which(program) is not None
