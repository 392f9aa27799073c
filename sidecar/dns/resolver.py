"""Answers the queries of the pod: from the name table, or else with the answers of the pod's resolvers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

import dns.rcode

from sidecar.config.name_table import NameTable
from sidecar.dns.answer import answer
from sidecar.dns.forwarder import QuestionForwarder
from sidecar.dns.names import Names, Surroundings
from sidecar.dns.query import Query, error_response, parse_query
from sidecar.dns.stats import DnsStats
from sidecar.errors import DnsQueryError

_LOG = logging.getLogger(__name__)

# Each has a socket, or a few if the resolvers do not answer.
MOST_FORWARDED: Final = 256

Reply = Callable[[bytes], None]


class Resolver:
    """``expects_names``: whether the control plane may still send the first name table. Until then every
    query fails, as in Istio: another resolver's answer could lead an application past the mesh for long."""

    def __init__(
        self,
        forwarder: QuestionForwarder,
        stats: DnsStats,
        around: Surroundings,
        *,
        expects_names: Callable[[], bool],
        turn: Callable[[], int] = lambda: random.getrandbits(16),
        most_forwarded: int = MOST_FORWARDED,
    ) -> None:
        self.around: Final = around
        self.forwarder: Final = forwarder
        self.stats: Final = stats
        self.names: Names | None = None
        self._expects_names: Final = expects_names
        self._turn: Final = turn
        self._most_forwarded: Final = most_forwarded
        self._forwarded: Final[set[asyncio.Task[None]]] = set()

    def use(self, table: NameTable | None) -> None:
        """The name table in force; None before the first one."""
        if table is None:
            self.names = None
        elif self.names is None or self.names.table is not table:
            self.names = Names(table, self.around)

    def receive(self, data: bytes, reply: Reply, *, stream: bool) -> None:
        """Calls ``reply`` with the response, now or later; an empty one if the message gets none.
        ``stream``: it came over TCP."""
        self.stats.requests_total += 1
        try:
            query = parse_query(data)
            response = self._answer(query, stream=stream)
        except DnsQueryError as error:
            response = error.answer
        if response is None:
            self._forward(query, reply, stream=stream)
        else:
            reply(response)

    def _answer(self, query: Query, *, stream: bool) -> bytes | None:
        if self.names is not None:
            return answer(query, self.names, stream=stream, turn=self._turn())
        return _failure(query) if self._expects_names() else None

    def _forward(self, query: Query, reply: Reply, *, stream: bool) -> None:
        if len(self._forwarded) >= self._most_forwarded:
            self.stats.upstream_failures_total += 1
            reply(_failure(query))
            return
        task = asyncio.create_task(self._pass_on(query, reply, stream=stream), name="dns-forward")
        self._forwarded.add(task)
        task.add_done_callback(self._forwarded.discard)

    async def _pass_on(self, query: Query, reply: Reply, *, stream: bool) -> None:
        reply(await self.forwarder.ask(query, stream=stream) or _failure(query))

    async def close(self) -> None:
        for task in self._forwarded:
            task.cancel()
        await asyncio.gather(*self._forwarded, return_exceptions=True)


def _failure(query: Query) -> bytes:
    return error_response(query.id, query.flags, dns.rcode.SERVFAIL, query.question)
