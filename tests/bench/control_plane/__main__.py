"""`make bench-control-plane`: named cases, each with its figures. They are not judged: machines differ.

python -m tests.bench.control_plane [CASE...]      all cases, or those named
"""

from __future__ import annotations

import argparse

from tests.bench.control_plane import model, processes, xds_server

CASES = {**model.CASES, **xds_server.CASES, **processes.CASES}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.control_plane", description="Measures the mesh on this machine"
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"one of {', '.join(CASES)}; all by default")
    names = parser.parse_args().cases or list(CASES)
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"unknown case: {', '.join(unknown)}")
    for number, name in enumerate(names, start=1):
        print(f"[{number}/{len(names)}] {name}", flush=True)
        CASES[name]()


if __name__ == "__main__":
    main()
