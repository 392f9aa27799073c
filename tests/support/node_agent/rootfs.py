"""The file system of a container: the machine's own, with a layer over it for writes."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from tests.support.node_agent.program import Program

REPOSITORY = Path(__file__).resolve().parents[3]
HOST = "/.host"  # where the machine's file system is until the container's own is complete
STARTED = "started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mount: `source` on the machine, a folder or a file, is at `target` in the container."""

    source: Path
    target: str
    read_only: bool


def script(scratch: Path, hostname: str, mounts: list[Mount], program: Program) -> str:
    """For sh(1) as the first process of new mount, PID and UTS namespaces: makes the container's file system
    and becomes the program. `scratch` is an empty folder. Standard input is a pipe: it says there what went
    wrong, or `STARTED`."""
    root = f"{scratch}/root"
    executable = quote(program.argv[0])
    privileged = program.privileges.privileged
    # An interpreter may be in a folder that is root's alone.
    closed = [quote(str(folder)) for folder in folders_above_programs() if not folder.stat().st_mode & 0o001]
    lines = [
        "set -e",
        "exec 3>&1 1>&0 2>&0",
        # Writes go to memory, and are lost with the container's last process.
        f"mount -t tmpfs container {quote(str(scratch))}",
        f"mkdir {scratch}/upper {scratch}/work {root}",
        f"mount -t overlay container -o lowerdir=/,upperdir={scratch}/upper,workdir={scratch}/work {root}",
        f"cd {root}",
        "mount -t proc proc proc",
        f"mount -t sysfs{'' if privileged else ' -o ro'} sysfs sys",
        "mount --rbind /dev dev",
        f"mkdir {HOST[1:]}",
        f"pivot_root . {HOST[1:]}",
        f"echo {quote(hostname)} > /proc/sys/kernel/hostname",
        *(line for mount in [*program_mounts(), *mounts] for line in mount_lines(mount)),
        f"umount -l {HOST}",
        # No image has this file of the machine's: iptables must be able to create it.
        f"rm -df {HOST} /run/xtables.lock",
        *([] if not closed else [f"chmod a+x {' '.join(closed)}"]),
        f"mkdir -p {quote(program.folder)}",
        *([] if privileged else read_only("/proc/sys")),
        *(["mount -o remount,bind,ro /"] if program.privileges.read_only_root else []),
        f"PATH={quote(program.environment['PATH'])}",
        f"if ! command -v -- {executable} > /dev/null; then",
        f"  printf '%s: no such executable\\n' {executable}; exit 1",
        "fi",
        f"echo {STARTED}",
        f"exec {' '.join(map(quote, program.command_line()))} < /dev/null 1>&3 2>&3 3>&-",
    ]
    return "\n".join(lines)


def mount_lines(mount: Mount) -> list[str]:
    """To be run when the root is changed: links in the target's path lead where the container sees them."""
    source, target = quote(f"{HOST}{mount.source}"), quote(mount.target)
    if mount.source.is_dir():
        place = f"mkdir -p {target}"
    else:  # a link there, as /etc/resolv.conf often is, may lead nowhere
        folder = quote(os.path.dirname(mount.target))
        place = f"mkdir -p {folder}; [ ! -L {target} ] || rm {target}; touch {target}"
    return [place, f"mount -o bind{',ro' if mount.read_only else ''} {source} {target}"]


def read_only(folder: str) -> list[str]:
    return [f"mount -o bind {folder} {folder}", f"mount -o remount,bind,ro {folder}"]


def folders_above_programs() -> list[Path]:
    return sorted({parent for folder in program_folders() for parent in folder.parents})


def program_folders() -> set[Path]:
    return {REPOSITORY, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}


def program_mounts() -> list[Mount]:
    """Our own programs, as far as they are on another file system than `/`: an overlay shows but one."""
    device = os.stat("/").st_dev
    return [
        Mount(source=folder, target=str(folder), read_only=True)
        for folder in sorted(program_folders())
        if folder.stat().st_dev != device
    ]
