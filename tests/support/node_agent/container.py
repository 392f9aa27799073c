"""A running container: a process in separate namespaces, with its output in a file.

The kernel ends it with us: the process is killed when its parent ends, a shell that waits for it, and the
shell is killed when we end, for whatever reason.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from tests.support.node_agent.cgroups import Group
from tests.support.node_agent.privileges import SETPRIV
from tests.support.node_agent.program import Program
from tests.support.node_agent.rootfs import STARTED, Mount, script

# A shell: its exit code shows whether a signal ended the process (128 + the signal's number).
WAIT_FOR = f'{SETPRIV} --pdeathsig KILL sh "$0"; exit $?'
OUTPUT_LIMIT_BYTES = 10_000


class StartError(Exception):
    """The container's process could not be made; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """`scratch` is an empty folder for its file system, `network` the name of the pod's network namespace."""

    program: Program
    hostname: str
    network: str
    mounts: list[Mount]
    scratch: Path
    log: Path
    group: Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Descriptors, or `subprocess.PIPE`; without `stdin` the input is empty. `terminal`: they are one, and
    it controls the process."""

    stdin: int | None = None
    stdout: int
    stderr: int
    terminal: bool = False


class Container:
    def __init__(self, spec: ContainerSpec, shell: Process, pid: int | None) -> None:
        self._program = spec.program
        self._shell = shell
        self._pid = pid

    async def wait(self) -> int:
        """Its exit code, once it has ended; 128 and the signal's number where a signal ended it."""
        return await self._shell.wait()

    def signal(self, number: signal.Signals) -> None:
        """As to any first process of a PID namespace: without a handler it takes SIGKILL alone."""
        if self._shell.returncode is None and self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL when the grace period is over. Returns when it has ended."""
        self.signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), grace_s)
        await self.kill()

    async def kill(self) -> None:
        """With all of its processes."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def run(self, command: list[str]) -> tuple[int, str]:
        """Runs a command in the container: returns its exit code and its output. The command is killed if we
        are cancelled."""
        process = await self.start(command, Streams(stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        try:
            output, _ = await process.communicate()
        finally:
            kill(process)
            await process.wait()
        code = exit_code(await process.wait())
        return code, output[:OUTPUT_LIMIT_BYTES].decode(errors="replace")

    async def start(self, command: Sequence[str], streams: Streams) -> Process:
        """Starts a command in the container, in a separate session. It ends with the container; the caller
        ends it by `kill`."""
        variables = {**self._program.environment, **({"TERM": "xterm"} if streams.terminal else {})}
        line = replace(self._program, argv=command, environment=variables).command_line()
        return await asyncio.create_subprocess_exec(
            *(["setsid", "--ctty"] if streams.terminal else []),
            *("nsenter", f"--target={self._pid}", "--mount", "--pid", "--net", "--uts", "--"),
            *(SETPRIV, "--pdeathsig=KILL", *line),
            stdin=subprocess.DEVNULL if streams.stdin is None else streams.stdin,
            stdout=streams.stdout,
            stderr=streams.stderr,
            start_new_session=not streams.terminal,
        )


def kill(process: Process) -> None:
    """One of `Container.start`, with its session; nothing where it has ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def exit_code(returned: int) -> int:
    """As a shell has it: 128 and the signal's number where a signal ended the process."""
    return 128 - returned if returned < 0 else returned


async def start(spec: ContainerSpec) -> Container:
    """Returns once the container's own program has begun. Raises StartError."""
    if not spec.program.argv:
        raise StartError("no command: neither the container has one, nor its image, nor are there args")
    receiver, sender = os.pipe()
    with os.fdopen(receiver, "rb") as pipe:
        try:
            shell = await launch(spec, sender)
        finally:
            os.close(sender)
        try:
            told = await read_line(pipe)
            if told == STARTED:
                return Container(spec, shell, first_child(shell.pid))
            await shell.wait()
        except BaseException:
            if shell.returncode is None:
                shell.kill()
                await shell.wait()
            raise
    raise StartError(told or f"it ended with {shell.returncode} before it began")


async def launch(spec: ContainerSpec, told: int) -> Process:
    # In a file: an argument may be too long, and every user of the machine can read it.
    commands = spec.scratch.with_suffix(".sh")
    commands.touch(mode=0o600)
    enter = [f"echo 0 > {quote(str(entrance))}" for entrance in spec.group.entrances]
    commands.write_text("\n".join([*enter, script(spec.scratch, spec.hostname, spec.mounts, spec.program)]))
    with spec.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(SETPRIV, "--pdeathsig=KILL", "nsenter", f"--net=/run/netns/{spec.network}"),
            *("unshare", "--mount", "--pid", "--uts", "sh", "-c", WAIT_FOR, str(commands)),
            stdin=told,
            stdout=log,
            stderr=subprocess.DEVNULL,  # the shell writes "Killed" there
            start_new_session=True,
        )


async def read_line(pipe: object) -> str:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    try:
        return (await reader.readline()).decode(errors="replace").strip()
    finally:
        transport.close()


def first_child(pid: int) -> int | None:
    """The container's first process, by its number on the machine; None where it has ended already."""
    with suppress(FileNotFoundError):
        if children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return int(children[0])
    return None
