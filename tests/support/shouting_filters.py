"""Filters that wrap bodies, wait, or answer by themselves, and a proxy over sockets that has one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sidecar.config.listener import HttpFilter
from sidecar.config.route import PathMatchKind, RetryPolicy, RouteMatch
from sidecar.filters.bodies import map_body, on_end
from sidecar.filters.chain import FilterContext, FilterKind, FilterRegistry
from sidecar.http.body import Body
from sidecar.http.message import Request, Response, Service
from tests.support.clusters import at_port, static_cluster
from tests.support.filter_chains import ROUTER
from tests.support.listening import eventually
from tests.support.routes import configuration, prefix, route, to, virtual_host
from tests.support.running_stack import RunningStack, manager_of, running_stack

RETRY = RetryPolicy(retry_on=frozenset({"5xx"}), num_retries=2, back_off_base_interval_s=0.001)


class Shouting:
    """Another body's bytes in capitals, as `body`."""

    def __init__(self, body: Body) -> None:
        self.closed = False
        self.body = on_end(map_body(body, bytes.upper), self._close)

    def _close(self) -> None:
        self.closed = True


@dataclass
class Seen:
    """The actions of a test's filter."""

    bodies: list[Shouting] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waits_that_ended: int = 0
    closed: int = 0


class Wrapping:
    """Wraps the bodies of request and response."""

    def __init__(self, config: Config, context: FilterContext) -> None:
        self.seen = config.seen

    async def __call__(self, request: Request, proceed: Service) -> Response:
        self.seen.reached.set()
        request.body = self._wrapped(request.body)
        response = await proceed(request)
        response.body = self._wrapped(response.body)
        return response

    def _wrapped(self, body: Body) -> Body:
        self.seen.bodies.append(Shouting(body))
        return self.seen.bodies[-1].body

    def close(self) -> None:
        self.seen.closed += 1


class Waiting(Wrapping):
    """Waits before and after the rest of the chain, and wraps bodies too."""

    def __init__(self, config: Config, context: FilterContext) -> None:
        super().__init__(config, context)
        self._timers = context.timers

    async def __call__(self, request: Request, proceed: Service) -> Response:
        await self._wait()
        response = await super().__call__(request, proceed)
        await self._wait()
        return response

    async def _wait(self) -> None:
        try:
            self.seen.reached.set()
            await self.seen.gate.wait()
            await self._timers.sleep(0.005)
        finally:
            self.seen.waits_that_ended += 1


class Answering(Wrapping):
    """Answers by itself, without the rest of the chain, and does not read the request's body."""

    async def __call__(self, request: Request, proceed: Service) -> Response:
        self.seen.reached.set()
        return Response(403, [(b"content-type", b"text/plain")], self._wrapped(Body(b"no")))


class Replacing(Wrapping):
    """Answers with another response than the host's."""

    async def __call__(self, request: Request, proceed: Service) -> Response:
        response = await super().__call__(request, proceed)
        response.body.close()
        return Response(403, [], self._wrapped(Body(b"no")))


KINDS = {"wrapping": Wrapping, "waiting": Waiting, "answering": Answering, "replacing": Replacing}
ANSWERS_ITSELF = ("answering", "replacing")


@dataclass(frozen=True)
class Config:
    kind: type[Wrapping]
    seen: Seen


FILTERS = FilterRegistry(FilterKind(config=Config, make=lambda config, context: config.kind(config, context)))


class Proxy:
    def __init__(self, running: RunningStack, seen: Seen) -> None:
        self.running = running
        self.seen = seen
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.running.port)
        self._writers.append(writer)
        writer.write(data)
        return reader, writer

    async def end(self) -> None:
        """Clients disconnect; then no request is active, and each body was closed."""
        for writer in self._writers:
            writer.close()
        await self.running.settle()
        await eventually(lambda: all(body.closed for body in self.seen.bodies))


@asynccontextmanager
async def proxy(
    kind: str, port: int, *, waits: bool = False, retry: RetryPolicy = RETRY
) -> AsyncIterator[Proxy]:
    """``waits``: the filter that waits is not let on by itself."""
    seen = Seen()
    if not waits:
        seen.gate.set()
    tunnel = to("up", terminate_connect=True, timeout_s=0.0)
    routes = configuration(
        virtual_host(
            route(RouteMatch(path_kind=PathMatchKind.CONNECT), tunnel),
            route(prefix(), to("up", retry_policy=retry, timeout_s=0.0)),
        )
    )
    http_filter = HttpFilter(name="test", config=Config(KINDS[kind], seen))
    manager = manager_of(
        http_filter, ROUTER, route_config=routes, upgrades=frozenset({"websocket", "connect"})
    )
    async with running_stack(manager, static_cluster(at_port(port)), filters=FILTERS) as running:
        made = Proxy(running, seen)
        yield made
        await made.end()
    assert seen.closed == 1
