"""The machine of a run, and whether others use it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from tests.bench.proxies.build import interpreter
from tests.bench.proxies.launch import envoy_program

BUSY_LOAD = 0.5
BUSY_STEAL = 0.02


def description() -> dict[str, str]:
    envoy = subprocess.run([envoy_program(), "--version"], check=True, capture_output=True, text=True).stdout
    return {
        "cpu": f"{os.cpu_count()} x {parse_model(Path('/proc/cpuinfo').read_text())}",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "interpreter": interpreter(),
        "envoy": parse_version(envoy),
    }


def parse_version(text: str) -> str:
    """Of ``envoy --version``, whose parts are divided by slashes."""
    found = re.search(r"/(\d+\.\d+\.\d+)/", text)
    return found[1] if found else text.strip()


def parse_model(cpuinfo: str) -> str:
    names = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return names[0] if names else "unknown processor"


class Watch:
    """What others did with the machine since the start of a run."""

    def __init__(self) -> None:
        self.load_before = os.getloadavg()[0]
        self._before = parse_cpu_ticks(Path("/proc/stat").read_text())

    def warnings(self) -> list[str]:
        steal = stolen_share(self._before, parse_cpu_ticks(Path("/proc/stat").read_text()))
        return warnings_of(self.load_before, steal)


def warnings_of(load_before: float, steal: float) -> list[str]:
    """`load_before` is the load average of a minute before the run; `steal` the share of CPU time that the
    hypervisor gave to others during it."""
    found = []
    if load_before > BUSY_LOAD:
        found.append(f"the machine was busy before the run: load average {load_before:.1f}")
    if steal > BUSY_STEAL:
        found.append(f"the hypervisor took {steal:.0%} of the CPU time for others")
    return found


def parse_cpu_ticks(stat: str) -> list[int]:
    """The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal (proc(5))."""
    return [int(field) for field in stat.splitlines()[0].split()[1:9]]


def stolen_share(before: list[int], after: list[int]) -> float:
    spent = [later - earlier for earlier, later in zip(before, after, strict=True)]
    return spent[7] / sum(spent) if sum(spent) else 0.0
