"""A new key that waits for its certificate, in a process of its own: `sidecar.identity.key_process`."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

from protos.spiffe import SpiffeId
from sidecar.errors import IdentityError
from sidecar.identity.svid import SignedCertificate, Svid

COMMAND: Final = (sys.executable, "-m", "sidecar.identity.key_process")
# An answer takes 0.1 s of CPU; a throttled container needs longer.
_ANSWER_TIMEOUT_S: Final = 60.0
_END_TIMEOUT_S: Final = 1.0
_MAX_LINE_BYTES: Final = 16 * 1024 * 1024


class PendingKey(Protocol):
    """One key, for one certificate."""

    async def signing_request(self) -> str:
        """A PKCS #10 request, PEM."""

    async def accept(self, signed: SignedCertificate, now: float) -> Svid:
        """Verifies the authority's answer. ``now``: seconds since the epoch. Raises `IdentityError`."""


class KeyInProcess:
    """The `PendingKey` of a running process. Each method raises `IdentityError` if the process fails."""

    def __init__(self, process: Process, spiffe_id: SpiffeId) -> None:
        self._process = process
        self._spiffe_id = spiffe_id

    async def signing_request(self) -> str:
        return str(await self._ask(str(self._spiffe_id)))

    async def accept(self, signed: SignedCertificate, now: float) -> Svid:
        answer = await self._ask({"chain": signed.chain, "trust_bundle": signed.trust_bundle, "now": now})
        if "error" in answer:
            raise IdentityError(answer["error"])
        return Svid(
            spiffe_id=self._spiffe_id,
            chain=answer["chain"].encode(),
            key=answer["key"].encode(),
            trust_bundle=answer["trust_bundle"].encode(),
            begins_s=answer["begins_s"],
            expires_s=answer["expires_s"],
        )

    async def _ask(self, question: object) -> Any:
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None  # both are pipes
        assert answers is not None
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                questions.write(json.dumps(question).encode() + b"\n")
                await questions.drain()
                return json.loads(await answers.readline())
        except TimeoutError:
            raise IdentityError(
                f"the process with the key: no answer within {_ANSWER_TIMEOUT_S:g} s"
            ) from None
        except (OSError, ValueError) as error:  # it has ended; its own error is on standard error
            raise IdentityError("the process with the key has failed") from error


@asynccontextmanager
async def pending_key(spiffe_id: SpiffeId, command: Sequence[str] = COMMAND) -> AsyncIterator[PendingKey]:
    """The process ends with the context. Raises `IdentityError` if it cannot be started."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, limit=_MAX_LINE_BYTES
        )
    except OSError as error:
        raise IdentityError(f"the process with the key cannot be started: {error}") from error
    try:
        yield KeyInProcess(process, spiffe_id)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        # A killed process may be in uninterruptible I/O: the certificate does not wait for it.
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_TIMEOUT_S):
                await process.wait()
