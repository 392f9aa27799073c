"""`make bench`: the sidecar beside the real Envoy, from the same bootstrap files, in one run.

Nothing is judged by the exit code: machines differ, and the ratio counts, not the microseconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench.cases.registry import CASES
from tests.bench.load.generator import ROOT, LoadError
from tests.bench.machine import Watch, description
from tests.bench.proxies.build import find_build
from tests.bench.report.results import CaseResult, to_json
from tests.bench.report.table import print_bars, print_case
from tests.bench.run import run_case
from tests.bench.site import Site

RESULTS = ROOT / "build" / "bench.json"


def main() -> None:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 160)
    watch, about = Watch(), description()
    for name, value in {**about, "builds": ", ".join(options.build)}.items():
        console.print(f"{name}: {value}", highlight=False)
    _warn(console, watch)
    results: list[CaseResult] = []
    for result in _run(options, console):
        print_case(console, result)
        results.append(result)
        _write(options, about, watch, results)  # whatever happens to the others
    print_bars(console, results, options.build)
    _warn(console, watch)
    console.print(f"written: {options.output}")


def _run(options: argparse.Namespace, console: Console) -> Iterator[CaseResult]:
    """The cases one by one; one that fails is reported and left out."""
    with ExitStack() as stack, _progress(console) as progress:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outrigger-bench-")))
        folder.chmod(0o755)  # nginx reads a certificate as another user
        site = Site(
            folder,
            stack,
            builds=[find_build(name) for name in options.build],
            concurrency=options.concurrency,
            others=not options.without_others,
        )
        bar = progress.add_task("", total=len(options.case))
        for name in options.case:
            try:
                yield run_case(
                    CASES[name],
                    site,
                    rounds=options.rounds,
                    seconds=options.seconds,
                    advance=lambda text: progress.update(bar, description=text),
                )
            except (LoadError, AssertionError) as error:
                console.print(f"[red]{name} failed:[/] {escape(str(error))}")
            progress.advance(bar)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--case",
        nargs="+",
        choices=list(CASES),
        metavar="CASE",
        default=list(CASES),
        help=f"of {', '.join(CASES)} (default: all)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each case (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a round (default: %(default)s)")
    parser.add_argument(
        "--concurrency", type=int, default=1, help="workers of each proxy (default: %(default)s)"
    )
    parser.add_argument(
        "--build",
        nargs="+",
        default=["compiled"],
        metavar="BUILD",
        help="python, compiled (default), or python@FOLDER of another checkout; several take turns",
    )
    parser.add_argument("--without-others", action="store_true", help="only Envoy and the sidecar")
    parser.add_argument("--output", type=Path, default=RESULTS, help="(default: build/bench.json)")
    return parser.parse_args()


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _warn(console: Console, watch: Watch) -> None:
    for warning in watch.warnings():
        console.print(f"[yellow]warning:[/] {warning}")


def _write(
    options: argparse.Namespace, about: dict[str, str], watch: Watch, results: list[CaseResult]
) -> None:
    document = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "warnings": watch.warnings(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "concurrency": options.concurrency,
        "builds": options.build,
        "cases": {result.name: to_json(result) for result in results},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
