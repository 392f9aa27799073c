"""A filter that changes the length of bodies, between real sockets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.filters.bodies import map_body
from sidecar.filters.chain import FilterContext, FilterKind, FilterRegistry
from sidecar.http.body import Body
from sidecar.http.message import Request, Response, Service
from sidecar.router.match import RouteTable, RouteTableRef
from tests.support.bodies import read_all
from tests.support.echo_upstream import echo
from tests.support.filter_chains import ROUTER, filter_chain
from tests.support.http1_proxy import proxy, read_head, upstream
from tests.support.listening import eventually
from tests.support.routes import configuration, prefix, route, to, virtual_host

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


@dataclass(frozen=True)
class Doubling:
    """The configuration of a filter that doubles bodies, and says nothing of their length."""

    buffered: bool


class DoublingFilter:
    def __init__(self, config: Doubling, context: FilterContext) -> None:
        self._buffered = config.buffered

    async def __call__(self, request: Request, proceed: Service) -> Response:
        request.body = await self._doubled(request.body)
        response = await proceed(request)
        response.body = await self._doubled(response.body)
        return response

    async def _doubled(self, body: Body) -> Body:
        return Body(await read_all(body) * 2) if self._buffered else map_body(body, lambda piece: piece * 2)

    def close(self) -> None: ...


def doubling(config: HttpConnectionManager, host: Service) -> Service:
    async def router(request: Request) -> Response:
        response = await host(request)
        request.upstream_body = response.body
        return response

    routes = RouteTableRef(RouteTable(configuration(virtual_host(route(prefix(), to("up"))))))
    registry = FilterRegistry(FilterKind(config=Doubling, make=DoublingFilter))
    return filter_chain(config, routes=routes, router=router, registry=registry)


SIZED = b"Content-Length: 5"


CHUNKED = b"Transfer-Encoding: chunked"


def content(fields: dict[bytes, bytes], data: bytes) -> bytes:
    """The body, of which `data` is all that came behind its head."""
    if b"transfer-encoding" not in fields:
        assert int(fields.get(b"content-length", len(data))) == len(data)
        return data
    body = b""
    while not data.startswith(b"0\r\n"):
        size, _, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return body


@pytest.mark.parametrize(
    ("version", "framing", "pieces"),
    [
        pytest.param(b"HTTP/1.1", SIZED, [b"hello"], id="whole"),
        pytest.param(b"HTTP/1.1", SIZED, [b"", b"hel", b"lo"], id="streamed"),
        pytest.param(b"HTTP/1.1", CHUNKED, [b"5\r\nhello\r\n0\r\n\r\n"], id="chunks"),
        pytest.param(b"HTTP/1.1", CHUNKED, [b"", b"5\r\nhello\r\n", b"0\r\n\r\n"], id="streamed chunks"),
        pytest.param(b"HTTP/1.0", SIZED, [b"hello"], id="HTTP/1.0"),
        pytest.param(b"HTTP/1.0", SIZED, [b"", b"hel", b"lo"], id="HTTP/1.0 streamed"),
    ],
)
@pytest.mark.parametrize("buffered", [True, False], ids=["replaced by a whole body", "replaced by a stream"])
async def test_a_filter_that_changes_the_length_of_a_body_breaks_no_connection(
    version: bytes, framing: bytes, pieces: list[bytes], buffered: bool
) -> None:
    filters = (HttpFilter(name="doubling", config=Doubling(buffered)), ROUTER)
    async with upstream(echo) as port, proxy(port, filtered=doubling, http_filters=filters) as sidecar:
        for number in (1, 2):
            reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
            writer.write(b"POST / %b\r\nHost: a\r\n%b\r\nConnection: close\r\n\r\n" % (version, framing))
            if not pieces[0]:  # the head arrives alone
                await eventually(lambda number=number: sidecar.stats.downstream_rq_total == number)
            for piece in pieces:
                writer.write(piece)
            line, fields = await read_head(reader)
            assert line.startswith(b"HTTP/1.1 200")
            assert content(fields, await asyncio.wait_for(reader.read(), 10)) == b"hello" * 4
            writer.close()
        assert len(sidecar.host.opened) == 1, "no exchange has broken the connection to the upstream"
