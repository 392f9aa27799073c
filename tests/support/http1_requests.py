"""Requests to an HTTP/1.1 server of a test, services that answer them, and the parts of responses."""

from __future__ import annotations

import asyncio

from sidecar.http.body import Body
from sidecar.http.message import Request, Response, Service
from tests.support.http1 import response

HOST = b"Host: a\r\n"


GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


LINGER_S = 1.0  # the default of a connection manager


async def hello(request: Request) -> Response:
    return response(b"hello " + request.path)


class Held:
    """A service that answers when the test decides, and records whether it was cancelled."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[asyncio.Future[Response]] = []
        self.cancelled = 0

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        try:
            return await answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def status_of(data: bytes) -> int:
    return int(data.split(b" ", 2)[1])


def fields_of(data: bytes) -> dict[bytes, bytes]:
    head = data.partition(b"\r\n\r\n")[0]
    return dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])


def body_of(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


UPGRADE = b"GET /ws HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def tunnel(body: Body, requests: list[Request], status: int = 101) -> Service:
    async def service(request: Request) -> Response:
        requests.append(request)
        answer = Response(status, [(b"sec-websocket-accept", b"x")], body)
        answer.upgraded = True
        return answer

    return service
