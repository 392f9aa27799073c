"""Two sidecars under everything at once, for as long as you like: `make soak`.

python -m tests.soak [--seconds 600] [--concurrency 2] [--seed N]      exits with 1 if anything was violated
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import uvloop

from tests.soak.run import Report, soak

FOLDER = Path("build/soak")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--concurrency", type=int, default=2, help="workers of each sidecar")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the changes and the faults")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for the report and the logs")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    arguments.folder.mkdir(parents=True)
    report = uvloop.run(
        soak(
            arguments.folder,
            seconds=arguments.seconds,
            seed=arguments.seed,
            concurrency=arguments.concurrency,
            progress=_show,
        )
    )
    file = arguments.folder / "report.json"
    file.write_text(json.dumps(report.as_json(), indent=1))
    print("\n" + _summary(report, file))
    return 1 if report.violations else 0


def _show(report: Report, now_s: float) -> None:
    outcomes = report.outcomes
    counts = " ".join(f"{kind} {count}" for kind, count in sorted(outcomes.succeeded.items()))
    memory = " ".join(f"{node} {samples[-1] / 2**20:.0f} MB" for node, samples in report.memory.items())
    line = (
        f"{now_s:4.0f}/{report.seconds:.0f} s  {counts}  failed {outcomes.failed.total()}  "
        f"beyond policy {outcomes.beyond_policy.total()}  {memory}"
    )
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="", flush=True)
    elif int(now_s) % 10 == 0:
        print(line, flush=True)


def _summary(report: Report, file: Path) -> str:
    outcomes = report.outcomes
    lines = [f"seed {report.seed}, {report.seconds:.0f} s, {report.changes} changes; {file}"]
    for kind in sorted(outcomes.succeeded):
        lines.append(
            f"  {kind:12} {outcomes.succeeded[kind]:8} succeeded  {outcomes.failed[kind]:4} failed  "
            f"{outcomes.beyond_policy[kind]:5} beyond policy  {outcomes.reconnected[kind]:5} sent again"
        )
    for node, samples in report.memory.items():
        first, last = report.descriptors[node]
        lines.append(
            f"  {node:12} {samples[0] / 2**20:.1f} MB at first, {samples[-1] / 2**20:.1f} MB in the end; "
            f"descriptors {first}, {last}"
        )
    if report.violations:
        lines += ["VIOLATED:", *(f"  {each}" for each in report.violations)]
        lines += [f"    {each}" for each in outcomes.examples[1:]]
    else:
        lines.append("nothing was violated")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
