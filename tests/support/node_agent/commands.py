"""Runs the network's tools: `ip` and `iptables-restore`."""

from __future__ import annotations

import asyncio


class CommandError(Exception):
    """A tool failed; the message contains its output."""


async def run(*command: str, text: str = "") -> str:
    """The command's output, given the text on its standard input. The command is killed if we are cancelled.

    Raises CommandError where its exit code is not 0.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        output, complaints = await process.communicate(text.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise CommandError(
            f"{' '.join(command)}: exit code {process.returncode}: {complaints.decode()}{text}"
        )
    return output.decode()
