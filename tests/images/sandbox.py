"""Runs a program in a root file system made of layers, as a container engine does: in its own mount and PID
namespaces, with few capabilities, a small /dev and, for a container, a read-only root."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join, quote
from typing import Final

# The capabilities of a RUN line and of a container that drops none (Docker's default).
DOCKER_CAPABILITIES: Final = (
    "chown",
    "dac_override",
    "fsetid",
    "fowner",
    "mknod",
    "net_raw",
    "setgid",
    "setuid",
    "setfcap",
    "setpcap",
    "net_bind_service",
    "sys_chroot",
    "kill",
    "audit_write",
)
_DEVICES: Final = ("full", "null", "random", "urandom", "zero")
_PROGRAMS: Final = ("chroot", "mmdebstrap", "mount", "setpriv", "unshare")
_CHROOT: Final = ("setgid", "setuid", "sys_chroot")  # for chroot(1), which then changes the user


def missing_for_a_sandbox() -> str:
    """Why this machine cannot run one; empty where it can."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "needs root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """``source`` is a folder or a file of this machine."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """``layers`` from the lowest to the highest. Writes go to ``upper``, a folder that the caller makes; with
    ``read_only`` there are none."""

    layers: Sequence[Path]
    upper: Path
    environment: Mapping[str, str]
    user: str = "0:0"
    capabilities: Sequence[str] = ()
    read_only: bool = True
    volumes: Sequence[Volume] = field(default=())

    def command(self, program: Sequence[str], scratch: Path) -> list[str]:
        """``scratch`` is an empty folder on the same file system as ``upper``."""
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        return [*namespaces, "sh", "-ec", "\n".join(self._script(program, scratch))]

    def _script(self, program: Sequence[str], scratch: Path) -> list[str]:
        root, work = scratch / "root", scratch / "work"
        lower = ":".join(str(layer) for layer in reversed(self.layers)) or str(scratch / "nothing")
        capabilities = ",".join(["-all", *(f"+{each}" for each in {*self.capabilities, *_CHROOT})])
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        return [
            f"mkdir -p {root} {work} {scratch}/nothing",
            f"mount -t overlay image -o lowerdir={lower},upperdir={self.upper},workdir={work} {root}",
            f"mkdir -p {root}/proc {root}/dev",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs -o mode=755 devices {root}/dev",
            *(f"touch {root}/dev/{each}; mount --bind /dev/{each} {root}/dev/{each}" for each in _DEVICES),
            f"ln -s /proc/self/fd {root}/dev/fd; mkdir -m 1777 {root}/dev/shm",
            *(line for volume in self.volumes for line in _mounted(volume, root)),
            *([f"mount -o remount,bind,ro {root}"] if self.read_only else []),
            join(
                [
                    *("exec", "env", "-i", *environment),
                    *(_path("setpriv"), "--no-new-privs", "--bounding-set", capabilities),
                    *(_path("chroot"), f"--userspec={self.user}", "--groups=", str(root), *program),
                ]
            ),
        ]


def with_merged(layers: Sequence[Path], scratch: Path, command: Sequence[str]) -> list[str]:
    """Runs a command of this machine while the merged layers are at ``scratch / "root"``, read-only."""
    lower = ":".join([*(str(layer) for layer in reversed(layers)), str(scratch / "nothing")])
    lines = [
        f"mkdir -p {scratch}/root {scratch}/nothing",
        f"mount -t overlay image -o ro,lowerdir={lower} {scratch}/root",
        f"exec {join(command)}",
    ]
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(lines)]


def _mounted(volume: Volume, root: Path) -> list[str]:
    target = quote(f"{root}{volume.target}")
    if volume.source.is_dir():
        made = f"mkdir -p {target}"
    else:
        made = f"mkdir -p {quote(os.path.dirname(f'{root}{volume.target}'))}; touch {target}"
    return [made, f"mount --bind {quote(str(volume.source))} {target}"]


def _path(program: str) -> str:
    found = shutil.which(program)
    assert found is not None, program
    return found
