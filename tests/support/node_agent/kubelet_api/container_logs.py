"""The output of one run of a container, as `kubectl logs` asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

LOOK_EVERY_S = 0.05
CHUNK_BYTES = 65536
# Known to the API and not to this node: lines of the log have no times, and one stream has both outputs.
NOT_SUPPORTED = ("timestamps", "sinceSeconds", "sinceTime")


class LogOptionsError(Exception):
    """The request asks for a log that does not exist, or in a way that is not supported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """A part of the log file, in bytes: from `start` to `end`, or to the file's end. `is_over`: the container
    writes nothing more to it."""

    file: Path
    start: int
    end: int | None
    is_over: Callable[[], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    follow: bool = False
    previous: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """Raises LogOptionsError."""
        for name in NOT_SUPPORTED:
            if query.get(name, "false") != "false":
                raise LogOptionsError(f"{name} is not supported by this node")
        if query.get("stream", "All") != "All":
            raise LogOptionsError("a single stream of the log is not supported by this node")
        return cls(
            follow=query.get("follow") == "true",
            previous=query.get("previous") == "true",
            tail_lines=number(query.get("tailLines")),
            limit_bytes=number(query.get("limitBytes")),
        )


def number(text: str | None) -> int | None:
    return None if text is None else int(text)


async def chunks(run: LoggedRun, options: LogOptions) -> AsyncIterator[bytes]:
    """Once, or with `follow` until the run is over."""
    with run.file.open("rb") as file:
        start = run.start if options.tail_lines is None else tail(run, options.tail_lines)
        file.seek(start)
        left = options.limit_bytes
        while left is None or left > 0:
            is_over = run.is_over()  # before the read, which then has all of the output
            limits = [CHUNK_BYTES, left, None if run.end is None else run.end - file.tell()]
            if chunk := file.read(min(limit for limit in limits if limit is not None)):
                left = None if left is None else left - len(chunk)
                yield chunk
            elif is_over or not options.follow:
                return
            else:
                await asyncio.sleep(LOOK_EVERY_S)


def tail(run: LoggedRun, lines: int) -> int:
    """Where the last lines of the run begin. A test's log is small enough to be read whole."""
    text = run.file.read_bytes()[run.start : run.end]
    kept = text.splitlines(keepends=True)[-lines:] if lines else []
    return run.start + len(text) - sum(map(len, kept))
