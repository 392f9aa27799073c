"""Passes queries on to the resolvers of the pod. Their answers are passed back unchanged, but for the id."""

from __future__ import annotations

import asyncio
import secrets
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

import dns.rcode

from sidecar.dns.exchange import DatagramExchange, answers, with_id
from sidecar.dns.query import HEADER, Query
from sidecar.dns.resolv_conf import Upstream
from sidecar.dns.stats import DnsStats

_LENGTH: Final = struct.Struct("!H")  # before each message over TCP (RFC 1035 section 4.2.2)
_RCODE: Final = 0xF
# A client would ask its next resolver after such an answer, but its next resolver is this process.
_TRY_NEXT: Final = frozenset((dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED))
_ROUNDS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """``resend_s``: when the next resolver is asked; earlier ones may still answer. ``limit_s``: when the
    query fails, before the 5 s of a client's resolver are over."""

    resend_s: float = 1.5
    limit_s: float = 4.8


class QuestionForwarder:
    """``upstreams`` are tried in their order."""

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        stats: DnsStats,
        *,
        patience: Patience = Patience(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.upstreams: Final = tuple(upstreams)
        self._stats: Final = stats
        self._patience: Final = patience
        self._clock: Final = clock

    async def ask(self, query: Query, *, stream: bool) -> bytes | None:
        """The answer of the first resolver that has one; None if there is none in time. ``stream``: over TCP,
        as the client asked."""
        self._stats.upstream_requests_total += 1
        started = self._clock()
        if stream:
            answer = await self._over_tcp(query)
        else:
            answer = await self._over_udp(query, started + self._patience.limit_s)
        if answer is None:
            self._stats.upstream_failures_total += 1
        self._stats.upstream_request_duration_seconds.record(self._clock() - started)
        return answer

    async def _over_udp(self, query: Query, end: float) -> bytes | None:
        exchange = DatagramExchange(query, asyncio.get_running_loop())
        tries = islice(cycle(self.upstreams), _ROUNDS * len(self.upstreams))
        failed: set[Upstream] = set()
        failure: bytes | None = None
        try:
            while (now := self._clock()) < end:
                upstream = next((each for each in tries if each not in failed), None)
                if upstream is not None:
                    exchange.send(upstream)
                elif not exchange.waits:
                    break
                resend_at = end if upstream is None else min(now + self._patience.resend_s, end)
                with suppress(TimeoutError):
                    answering, answer = await exchange.next(resend_at - now)
                    if answer is not None and not _fails(answer):
                        return answer
                    failed.add(answering)
                    failure = answer or failure
        finally:
            exchange.close()
        return failure

    async def _over_tcp(self, query: Query) -> bytes | None:
        failure: bytes | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience.limit_s):
                for upstream in self.upstreams:
                    answer = None
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._patience.resend_s):
                            answer = await _ask_over_tcp(query, upstream)
                    if answer is not None and not _fails(answer):
                        return answer
                    failure = answer or failure
        return failure


def _fails(answer: bytes) -> bool:
    return HEADER.unpack_from(answer)[1] & _RCODE in _TRY_NEXT


async def _ask_over_tcp(query: Query, upstream: Upstream) -> bytes | None:
    message_id = secrets.randbits(16)
    host, port = upstream.address[:2]
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return None
    try:
        writer.write(_LENGTH.pack(len(query.data)) + with_id(query.data, message_id))
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        response = await reader.readexactly(length)
    except (OSError, EOFError):
        return None
    finally:
        writer.transport.abort()
    return with_id(response, query.id) if answers(response, query, message_id) else None
