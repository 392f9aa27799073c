"""Where a request's time goes: samples the sidecar with perf during a case.

python -m tests.bench.profile [--case http1] [--build compiled] [--document]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cases.registry import CASES
from tests.bench.document import PAGE, replaced
from tests.bench.proxies.accounting import family
from tests.bench.proxies.build import find_build
from tests.bench.site import Site

_HZ = 999
_LEAST_PERCENT = 0.6
_LINE = re.compile(r" *([0-9.]+)% +(\S+) +\[[.k]\] (\S+(?: \S+)*)")
_MYPYC = "__mypyc"
_MODULES = {"loop": "uvloop", "parser": "llhttp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Of all samples. `place` is a library, or the kernel."""

    percent: float
    place: str
    symbol: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("--case", choices=list(CASES), default="http1")
    parser.add_argument("--build", default="compiled")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--document", action="store_true", help="write it into docs/benchmarks.md")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outrigger-profile-")))
        site = Site(folder, stack, builds=[find_build(options.build)], concurrency=1, others=False)
        contenders = CASES[options.case].start(site, stack)
        ours = next(contender for contender in contenders if contender.name == options.build)
        data = folder / "perf.data"
        targets = ",".join(map(str, family(ours.roots)))
        record = ["perf", "record", "-q", "-F", str(_HZ), "-e", "cpu-clock", "-p", targets, "-o", str(data)]
        with subprocess.Popen([*record, "--", "sleep", f"{options.seconds:g}"]):
            cpu_us = ours.measure(options.seconds)["cpu_us"]
        text = markdown(f"`{options.case}`, build `{options.build}`", cpu_us, parse_report(_report(data)))
    print(text)
    if options.document:
        PAGE.write_text(replaced(PAGE.read_text(), "profile", text))


def _report(data: Path) -> str:
    command = ["perf", "report", "--stdio", "--no-children", "--sort", "dso,symbol", "-i", str(data)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def parse_report(report: str) -> list[Share]:
    """The lines of ``perf report --sort dso,symbol``, the largest first."""
    found = [_LINE.match(line) for line in report.splitlines()]
    return [Share(percent=float(line[1]), place=_place(line[2]), symbol=line[3]) for line in found if line]


def _place(name: str) -> str:
    if name.startswith("[kernel") or name == "[vdso]":
        return "kernel"
    if _MYPYC in name:
        return "the compiled modules"
    plain = re.sub(r"(\.cpython-[^.]+)?\.so.*", "", name)
    return _MODULES.get(plain, plain)


def markdown(title: str, cpu_us: float, shares: Sequence[Share]) -> str:
    """The places, then the functions, with microseconds of a request."""
    places: dict[str, float] = {}
    for share in shares:
        places[share.place] = places.get(share.place, 0.0) + share.percent
    lines = [
        f"{title}: {cpu_us:.1f} us of CPU a request.",
        "",
        "| where | share | us |",
        "| --- | --- | --- |",
    ]
    for place, percent in sorted(places.items(), key=lambda item: -item[1]):
        if percent >= _LEAST_PERCENT:
            lines.append(f"| {place} | {percent:.1f} % | {cpu_us * percent / 100:.1f} |")
    lines += ["", "| function | where | share | us |", "| --- | --- | --- | --- |"]
    for share in shares:
        if share.percent >= _LEAST_PERCENT:
            us = cpu_us * share.percent / 100
            lines.append(f"| `{share.symbol}` | {share.place} | {share.percent:.1f} % | {us:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
