"""Coverage-guided fuzzing of the HTTP/2 codec: `make fuzz-h2`.

python -m tests.fuzz.h2_atheris FOLDER [FLAGS OF LIBFUZZER]

An input is one byte that says how the rest is cut, and the bytes that a client sends after the preface. The
codec must not raise, must keep what `tests.fuzz.http2_server` checks, and reads whole requests as the `h2`
library does. FOLDER has the corpus, which begins as that of `tests.fuzz.http2_corpus` and grows.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sidecar.http.h2"]):
    from tests.fuzz.http2_readings import differences, read_by_h2, read_by_us
    from tests.fuzz.http2_server import SMALL, serve

from tests.fuzz.http2_corpus import CORPUS
from tests.support.http2_frames import PREFACE


def run_one(data: bytes) -> None:
    if not data:
        return
    step, sent = data[0] or len(data) + len(PREFACE), PREFACE + data[1:]
    cuts = list(range(step, len(sent), step))
    serve(sent, cuts)
    pieces = [sent[start:end] for start, end in pairwise([0, *cuts, len(sent)])]
    found = differences(read_by_us(pieces, SMALL), read_by_h2(pieces))
    if found:
        raise AssertionError("\n".join(found))


def write_corpus(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(CORPUS):
        for step in (0, 7):
            (folder / f"seed-{number}-{step}").write_bytes(bytes((step,)) + CORPUS[name])


def main() -> None:
    write_corpus(Path(sys.argv[1]))
    atheris.Setup(sys.argv, run_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
