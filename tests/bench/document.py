"""Writes the results of `make bench` into docs/benchmarks.md, and the plot next to it.

python -m tests.bench.document [RESULTS...]      build/bench.json by default

A later file replaces the cases of an earlier one, and adds others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.load.generator import ROOT
from tests.bench.report.markdown import detail_table, ratio_table
from tests.bench.report.plot import rows, svg
from tests.bench.report.results import from_json

RESULTS = ROOT / "build" / "bench.json"
PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "benchmarks.svg"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.document", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path)
    files = parser.parse_args().results or [RESULTS]
    document = merged([json.loads(path.read_text()) for path in files])
    cases = [from_json(name, case) for name, case in document["cases"].items()]
    builds = document["builds"]
    page = replaced(PAGE.read_text(), "machine", machine(document))
    page = replaced(page, "ratios", ratio_table(cases, builds))
    page = replaced(page, "figures", detail_table(cases, builds))
    PAGE.write_text(page)
    PLOT.write_text(svg(rows(cases, builds), builds))


def merged(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last one, with the cases and builds of all."""
    cases = {name: case for document in documents for name, case in document["cases"].items()}
    builds = dict.fromkeys(build for document in documents for build in document["builds"])
    return {**documents[-1], "cases": cases, "builds": list(builds)}


def replaced(page: str, section: str, content: str) -> str:
    """The page with other text between the comments of a section. Raises ValueError if they are missing."""
    start, end = f"<!-- {section}: generated -->\n", "<!-- end -->"
    before, found, rest = page.partition(start)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"no section {section!r} in the page")
    return f"{before}{start}\n{content}\n\n{end}{after}"


def machine(document: Mapping[str, Any]) -> str:
    about = document["machine"]
    lines = [
        f"Measured at {document['time']} on {about['cpu']}, {about['kernel']}; {about['interpreter']}; "
        f"Envoy {about['envoy']}; {document['rounds']} rounds of {document['seconds']:g} s, "
        f"`--concurrency {document['concurrency']}`.",
        *(f"Warning: {warning}." for warning in document["warnings"]),
    ]
    return "\n\n".join(lines)


if __name__ == "__main__":
    main()
