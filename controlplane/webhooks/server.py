"""The HTTPS server on port 15017, which API servers call for each new pod and each resource of the mesh.

Everyone in the cluster who reaches the port can call it. Nothing is stored, and the memory for bodies is
bounded. A caller that sends bodies slowly cannot use it up: an API server sends a body at once, so the body
that has been arriving for the longest time gives way to others.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from controlplane.webhooks.admission import (
    AdmissionRequest,
    Answer,
    InvalidReviewError,
    parse_review,
    review_of,
)

_LOG = logging.getLogger(__name__)

# An API server limits a request to 3 MiB; an AdmissionReview may contain the object and its predecessor.
LARGEST_BODY_BYTES: Final = 7 * 1024 * 1024
# All bodies that are being received or answered. A parsed body can need thirty times its size.
_LARGEST_SUM_BYTES: Final = 16 * 1024 * 1024
# An API server waits at most 30 s for an answer, and sends the body at once.
_BODY_TIMEOUT_S: Final = 5.0


class Webhook(Protocol):
    async def admit(self, request: AdmissionRequest) -> Answer:
        """Any exception refuses the object."""
        ...

    def note_error(self, status: int) -> None:
        """A request was not passed to `admit`. ``status`` is the HTTP status of the error."""
        ...


def webhook_app(webhooks: Mapping[str, Webhook], *, body_timeout_s: float = _BODY_TIMEOUT_S) -> Starlette:
    """``webhooks`` by their paths."""
    bodies = _Bodies(body_timeout_s)
    routes = [
        Route(path, _Endpoint(webhook, bodies).answer, methods=["POST"]) for path, webhook in webhooks.items()
    ]
    return Starlette(routes=[*routes, Route("/ready", _ready)])


async def _ready(_: Request) -> Response:
    """Tells that the port can be reached, and that its certificate verifies."""
    return PlainTextResponse("ready\n")


class _Bodies:
    """Receives the bodies of requests, and bounds the memory that they need together."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s: Final = timeout_s
        self._held_bytes = 0
        self._arriving: Final[dict[asyncio.Timeout, bytearray]] = {}  # the oldest come first

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytearray]:
        """Raises `HTTPException`: 400, 408, 413, 415 or 503."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise HTTPException(415, f"content type {media_type!r:.80}: expected application/json\n")
        body = bytearray()
        try:
            await self._fill(body, request)
            if not body:
                raise HTTPException(400, "the body is empty: expected an AdmissionReview\n")
            yield body
        finally:
            self._held_bytes -= len(body)

    async def _fill(self, body: bytearray, request: Request) -> None:
        timeout = asyncio.timeout(self._timeout_s)
        try:
            async with timeout:
                self._arriving[timeout] = body
                async for chunk in request.stream():
                    body += chunk
                    self._held_bytes += len(chunk)
                    if len(body) > LARGEST_BODY_BYTES:
                        raise HTTPException(413, f"the body has more than {LARGEST_BODY_BYTES} bytes\n")
                    if self._held_bytes > _LARGEST_SUM_BYTES:
                        self._make_room(timeout)
                if timeout not in self._arriving:
                    raise TimeoutError
        except TimeoutError as error:
            reason = f"the body did not arrive within {self._timeout_s:g} s, or others needed the memory\n"
            raise HTTPException(408, reason, {"Connection": "close"}) from error
        except ClientDisconnect as error:
            raise HTTPException(400, "the connection was closed before the body was complete\n") from error
        finally:
            self._arriving.pop(timeout, None)

    def _make_room(self, newest: asyncio.Timeout) -> None:
        """Gives up the body that has been arriving for the longest time. Raises `HTTPException` if there is
        no other than that of ``newest``."""
        oldest = next(iter(self._arriving), None)
        if oldest is None or oldest is newest:
            raise HTTPException(503, "too many requests at once: try again\n")
        body = self._arriving.pop(oldest)
        self._held_bytes -= len(body)
        body.clear()
        oldest.reschedule(asyncio.get_running_loop().time())


class _Endpoint:
    """Answers the requests for one webhook."""

    def __init__(self, webhook: Webhook, bodies: _Bodies) -> None:
        self._webhook: Final = webhook
        self._bodies: Final = bodies

    async def answer(self, request: Request) -> Response:
        try:
            async with self._bodies.receive(request) as body:
                # Escapes also characters that UTF-8 does not have: half of a surrogate pair.
                review = json.dumps(await self._review(body))
                return Response(review, media_type="application/json")
        except HTTPException as error:
            self._webhook.note_error(error.status_code)
            raise

    async def _review(self, body: bytearray) -> dict[str, object]:
        try:
            asked = parse_review(body)
        except InvalidReviewError as error:
            self._webhook.note_error(400)
            return review_of(error.uid, Answer(allowed=False, message=str(error)))
        try:
            answer = await self._webhook.admit(asked)
        except Exception:
            # A bug must neither admit an object unseen nor end the server.
            _LOG.exception("cannot answer for %r %r/%r", asked.kind, asked.namespace, asked.name)
            answer = Answer(allowed=False, code=500, message="internal error: see the control plane's log")
        return review_of(asked.uid, answer)
