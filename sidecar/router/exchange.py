"""Sends one request to an upstream: attempt after attempt, until the head of a response has arrived."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from sidecar.errors import UpstreamError, UpstreamPerTryTimeoutError, UpstreamTimeoutError
from sidecar.grpc_status import find_grpc_status, is_grpc_response
from sidecar.http.message import Request, Response
from sidecar.router.bodies import CallBody, CountedBody, ReplayableBody
from sidecar.router.forward import Forward, timeout_ms
from sidecar.router.grpc_timeout import GRPC_TIMEOUT, format_grpc_timeout
from sidecar.router.retry import Retries, is_safe_to_repeat, pushback_s
from sidecar.router.rewrite import rewrite_authority, set_header
from sidecar.router.server_names import server_names
from sidecar.router.time_limit import TimeLimit
from sidecar.timers import Timers
from sidecar.upstream.attempt import Attempt
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.context import PickContext


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterEnvironment:
    """`clock` measures response times, in seconds; it is finer than the timers' clock. `loop` is that of
    `TimeLimit`."""

    timers: Timers
    loop: asyncio.AbstractEventLoop | None = None
    rng: random.Random = field(default_factory=random.Random)
    clock: Callable[[], float] = time.monotonic


_ATTEMPT_COUNT: Final = b"x-envoy-attempt-count"
_EXPECTED_TIMEOUT: Final = b"x-envoy-expected-rq-timeout-ms"


class Exchange:
    """Made for one request, and used once: `run`. Its arguments, like those of `TimeLimit`, are positional:
    to make an object with keywords costs the interpreter twice as much."""

    __slots__ = (
        "_asked_s",
        "_attempt_limit",
        "_begun",
        "_body",
        "_cluster",
        "_context",
        "_env",
        "_forward",
        "_include_attempt_count",
        "_limit",
        "_pushback_s",
        "_request",
        "_retries",
        "_sending",
        "_started_s",
        "_timeout_s",
    )

    def __init__(
        self,
        request: Request,
        forward: Forward,
        cluster: Cluster,
        context: PickContext,
        env: RouterEnvironment,
        include_attempt_count: bool,
    ) -> None:
        self._request = request
        self._forward = forward
        self._cluster = cluster
        self._context = context
        self._env = env
        self._include_attempt_count = include_attempt_count
        if cluster.auto_names is not None:
            request.info.server_names = server_names(cluster.auto_names, request)
        self._started_s = env.clock()
        self._asked_s: float | None = None
        if request.complete:
            self._asked_s = self._started_s
        else:
            request.when_complete(self._request_ended)
        self._body: ReplayableBody | None = None
        # A tunnel is not read before it is open, and not repeated afterwards.
        if request.upgrade is None and request.body.whole is None:
            limit_bytes = forward.replay_limit_bytes
            self._body = ReplayableBody(request.body, self._request_ended, limit_bytes=limit_bytes)
        # Time limits run from when the client has sent all of the request: uploads may take long.
        timeout_s = forward.timeout_s if request.upgrade is None else 0.0  # a tunnel has no limit
        if request.info.grpc is not None and forward.call_timeout is not None:
            timeout_s = forward.call_timeout.of(request.headers)
        self._timeout_s = timeout_s
        self._limit = TimeLimit(env.timers, timeout_s, _route_timeout, self._asked_s is None, env.loop)
        self._attempt_limit: TimeLimit | None = None
        self._retries: Retries | None = None  # until an error
        self._pushback_s: float | None = None  # the pause that the server demands before a retry
        # The attempt that `begin` made, until `run` continues it.
        self._begun: Attempt | None = None
        self._sending: asyncio.Future[Response] | None = None

    def begin(self, waiter: asyncio.Future[Response]) -> None:
        """Begins the first attempt before `run`, which continues it and raises its error. If nothing has to
        be awaited before, the request is sent, and `waiter`, which is `Request.waiter`, gets the response."""
        if self._asked_s is None or self._forward.retry.per_try_timeout_s > 0:
            return
        request = self._request
        try:
            attempt = self._begun = self._begin_attempt()
            if attempt is None:
                request.info.attempts -= 1
                return
            self._prepare(attempt.host)
            if attempt.checkout():
                self._limit.start_before(waiter)
                self._sending = attempt.send(request)
        except Exception as error:
            request.waiter = waiter  # it gets nothing
            self._sending = waiter.get_loop().create_future()
            self._sending.set_exception(error)

    async def run(self) -> Response:
        """The retry loop. Raises `RequestError` when the last attempt has failed, or the route's timeout has
        expired. An attempt is not a coroutine of its own, which each request would pay for."""
        answered = False
        try:
            with self._limit:
                while True:
                    attempt, sending = self._begun, self._sending
                    self._begun = self._sending = None
                    try:
                        if sending is not None:
                            response = await sending
                        else:
                            if attempt is None:
                                attempt = self._begin_attempt() or await self._begin_at_original_dst()
                                self._prepare(attempt.host)
                            if not attempt.checkout():
                                await attempt.wait_for_connection()
                            response = await self._send(attempt)
                    except BaseException as error:
                        if attempt is not None:
                            attempt.failed(self._cause(error))
                        if not self._retries_error(error):
                            raise
                    else:
                        assert attempt is not None
                        self._note_response(attempt, response)
                        if not self._retries_response(response):
                            answered = True
                            self._count_messages(response)
                            return response
                        response.body.close()
                    await self._back_off(attempt)
        except UpstreamTimeoutError:
            self._cluster.stats.upstream_rq_timeout += 1
            raise
        finally:
            self._end(answered)

    def _end(self, answered: bool) -> None:
        if self._body is not None:
            self._request.body = self._body.source
        if not answered:
            self._request.close_replaced_body()
        if self._retries is not None:
            self._retries.end()

    def _request_ended(self) -> None:
        """Starts the route's timeout. Called when the client has sent the whole request, or when all of it
        was read, whichever is first."""
        if self._asked_s is not None:
            return
        self._asked_s = self._env.clock()
        self._limit.start()
        if self._attempt_limit is not None:
            self._attempt_limit.start()

    # One attempt.

    def _begin_attempt(self) -> Attempt | None:
        """Picks a host. None if it is the original destination, and not known yet."""
        info, cluster = self._request.info, self._cluster
        info.attempts += 1
        if cluster.is_original_dst:
            return cluster.begin_known_attempt(info)
        return cluster.begin_attempt(self._context, info)

    async def _begin_at_original_dst(self) -> Attempt:
        request = self._request
        return await self._cluster.begin_original_dst_attempt(request.info, request.authority)

    def _prepare(self, host: Host) -> None:
        """Sets the parts of the request that differ from attempt to attempt."""
        request, forward = self._request, self._forward
        info = request.info
        info.upstream_service_time_s = 0.0
        if self._body is not None:
            request.body = self._body.attempt()
        if self._include_attempt_count:
            set_header(request, _ATTEMPT_COUNT, b"1" if info.attempts == 1 else b"%d" % info.attempts)
        if info.grpc is not None and forward.call_timeout is not None:
            self._tell_deadline()
        elif forward.timeout_s or forward.retry.per_try_timeout_s:
            is_whole = info.attempts == 1 or forward.retry.per_try_timeout_s > 0
            expected_ms = forward.expected_timeout_ms if is_whole else timeout_ms(self._time_left_s())
            if info.attempts == 1 and request.resolver is None:
                # `ForwardedHeaders` has removed the client's, and no filter has added one.
                request.headers.append((_EXPECTED_TIMEOUT, expected_ms))
            else:
                set_header(request, _EXPECTED_TIMEOUT, expected_ms)
        if forward.auto_host_rewrite and host.endpoint.hostname:
            self._take_hosts_name(host.endpoint.hostname.encode())

    def _take_hosts_name(self, authority: bytes) -> None:
        """The first attempt also keeps the client's authority in x-forwarded-host, if the route requires
        it."""
        if self._request.info.attempts > 1:
            self._request.authority = authority
            return
        append = self._forward.append_x_forwarded_host
        rewrite_authority(self._request, authority, append_x_forwarded_host=append)

    def _time_left_s(self) -> float:
        """The rest of the route's timeout, for an attempt that is not the first."""
        return self._timeout_s - (self._env.clock() - self._started_s)

    def _tell_deadline(self) -> None:
        """The server of a gRPC call gets the time that this attempt may take, if it is limited."""
        left_s = self._timeout_s if self._request.info.attempts == 1 else self._time_left_s()
        per_try_s = self._forward.retry.per_try_timeout_s
        if per_try_s > 0 and (self._timeout_s == 0 or per_try_s < left_s):
            left_s = per_try_s
        if self._timeout_s > 0 or per_try_s > 0:
            left_ms = timeout_ms(left_s)
            set_header(self._request, _EXPECTED_TIMEOUT, left_ms)
            set_header(self._request, GRPC_TIMEOUT, format_grpc_timeout(int(left_ms)))

    def _send(self, attempt: Attempt) -> Awaitable[Response]:
        """Sends the request once, over one connection. The response follows when its head has arrived."""
        timeout_s = self._forward.retry.per_try_timeout_s
        if timeout_s > 0 and self._request.upgrade is None:
            return self._send_in_time(attempt, timeout_s)
        return attempt.send(self._request)

    async def _send_in_time(self, attempt: Attempt, timeout_s: float) -> Response:
        """Sends the request within the time limit of one attempt."""
        deferred = self._asked_s is None
        env = self._env
        limit = TimeLimit(env.timers, timeout_s, _attempt_timeout, deferred, env.loop)
        self._attempt_limit = limit
        with limit:
            response: Response = await attempt.send(self._request)
        return response

    def _cause(self, error: BaseException) -> BaseException:
        """The route's timeout reaches an attempt as a cancellation."""
        if self._limit.expired and not isinstance(error, UpstreamError):
            return _route_timeout()
        return error

    def _note_response(self, attempt: Attempt, response: Response) -> None:
        # A response that came before the end of the request has taken no time.
        duration_s = 0.0 if self._asked_s is None else self._env.clock() - self._asked_s
        self._request.info.upstream_service_time_s = duration_s
        status, body = response.status, response.body
        is_whole = body.whole is not None
        if self._request.info.grpc is None:
            attempt.responded(status, duration_s, is_whole)
        elif attempt.responded_to_call(status, duration_s, is_whole, find_grpc_status(response.headers)):
            expires_s = self._expires_s(response)
            response.body = CallBody(body, attempt.end, self._env.timers, expires_s, attempt.call_ended)
            return
        if not is_whole:
            response.body = CountedBody(body, attempt.end, self._env.timers, self._expires_s(response))

    def _count_messages(self, response: Response) -> None:
        call = self._request.info.grpc
        if call is not None and is_grpc_response(response.status, response.headers):
            response.body.count_messages(call.response_messages)

    def _expires_s(self, response: Response) -> float | None:
        expires_s = self._limit.at_s
        return None if response.upgraded or expires_s == math.inf else expires_s

    # Retries.

    def _retries_response(self, response: Response) -> bool:
        rules, retries = self._forward.retry, self._retries
        if rules.max_retries == 0 or not rules.wants_response_retried(response.status, response.headers):
            if retries is not None:
                retries.succeeded()
            return False
        if self._request.info.grpc is not None:
            self._pushback_s = pushback_s(response.headers)
            if self._pushback_s is not None and self._pushback_s < 0:
                return False
        return self._begin_retry()

    def _retries_error(self, error: BaseException) -> bool:
        if not isinstance(error, UpstreamError) or self._limit.expired:
            return False
        rules = self._forward.retry
        if rules.max_retries > 0 and rules.wants_error_retried(error):
            return self._begin_retry()
        return is_safe_to_repeat(error, self._request.method) and self._begin_retry(by_default=True)

    def _begin_retry(self, *, by_default: bool = False) -> bool:
        if self._retries is None:
            cluster = self._cluster
            self._retries = Retries(self._forward.retry, cluster.stats, cluster.breaker, self._request.info)
        return self._retries.begin(replayable=self._is_replayable(), by_default=by_default)

    def _is_replayable(self) -> bool:
        body = self._body
        if body is not None:
            return body.replayable
        if self._request.upgrade is not None:
            return True
        whole = self._request.body.whole
        return whole is not None and len(whole) <= self._forward.replay_limit_bytes

    async def _back_off(self, failed: Attempt | None) -> None:
        """Pauses before a retry, which avoids the host of the `failed` attempt if the policy says so."""
        self._limit.guard()
        max_repicks = self._forward.retry.host_selection_attempts
        if max_repicks and not self._context.max_repicks and failed is not None:
            self._context = PickContext(self._context.subset, max_repicks=max_repicks)  # the other was shared
            self._context.tried.append(failed.host)
        assert self._retries is not None
        pause_s, self._pushback_s = self._pushback_s, None
        if pause_s is None:
            pause_s = self._retries.back_off_s(self._env.rng.random())
        if pause_s > 0:
            await self._env.timers.sleep(pause_s)


def _route_timeout() -> UpstreamTimeoutError:
    return UpstreamTimeoutError("the upstream took longer to answer than the route allows")


def _attempt_timeout() -> UpstreamPerTryTimeoutError:
    return UpstreamPerTryTimeoutError("the upstream took longer to answer than one attempt may")
