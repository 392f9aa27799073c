"""One request's way to an upstream, attempt after attempt, until there is the head of a response.

A method that only chooses the next one returns what that one's call gives, to be awaited by the caller: each
coroutine in between would cost every request.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

from sidecar.errors import (
    NoHealthyUpstreamError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamOverflowError,
    UpstreamPerTryTimeoutError,
    UpstreamTimeoutError,
)
from sidecar.http.message import Request, Response
from sidecar.router.bodies import CountedBody, ReplayableBody
from sidecar.router.forward import Forward, timeout_ms
from sidecar.router.retry import is_safe_to_repeat
from sidecar.router.rewrite import rewrite_authority, set_header
from sidecar.router.time_limit import TimeLimit
from sidecar.timers import Timers
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.host import Host
from sidecar.upstream.load_balancer.subset import SubsetKey
from sidecar.upstream.pool.pooled_connection import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterEnvironment:
    """`clock` measures response times, in seconds; finer than the timers' own."""

    timers: Timers
    rng: random.Random = field(default_factory=random.Random)
    clock: Callable[[], float] = time.monotonic


_UNLIMITED = nullcontext()


class Exchange:
    """Made for one request, and used once: `run`."""

    __slots__ = (
        "_asked_s",
        "_attempt_limit",
        "_body",
        "_cluster",
        "_env",
        "_forward",
        "_include_attempt_count",
        "_limit",
        "_repeated",
        "_request",
        "_retries",
        "_retrying",
        "_started_s",
        "_subset",
        "_tried",
    )

    def __init__(
        self,
        request: Request,
        forward: Forward,
        cluster: Cluster,
        subset: SubsetKey,
        env: RouterEnvironment,
        *,
        include_attempt_count: bool,
    ) -> None:
        self._request = request
        self._forward = forward
        self._cluster = cluster
        self._subset = subset
        self._env = env
        self._include_attempt_count = include_attempt_count
        self._started_s = env.clock()
        self._asked_s: float | None = None
        if request.complete:
            self._asked_s = self._started_s
        else:
            request.when_complete(self._request_ended)
        self._body: ReplayableBody | None = None
        # Of a tunnel nothing is read before it is open, and then nothing is repeated.
        if request.upgrade is None and request.body.whole is None:
            limit_bytes = forward.replay_limit_bytes
            self._body = ReplayableBody(request.body, self._request_ended, limit_bytes=limit_bytes)
        self._limit: TimeLimit | None = None
        if forward.timeout_s > 0 and request.upgrade is None:  # a tunnel lasts as long as it lasts
            self._limit = self._time_limit(forward.timeout_s, _route_timeout)
        self._attempt_limit: TimeLimit | None = None
        self._retries = 0
        self._retrying = False
        self._repeated = False
        self._tried: list[Host] = []

    async def run(self) -> Response:
        """The retry loop. Raises `RequestError` when the last attempt allowed has failed, or the route's time
        is up."""
        try:
            with self._limit or _UNLIMITED:
                while True:
                    try:
                        response = await self._attempt()
                    except UpstreamError as error:
                        if not self._retries_error(error):
                            raise
                    else:
                        if not self._retries_response(response):
                            return response
                        response.body.close()
                    await self._back_off()
        except UpstreamTimeoutError:
            self._cluster.stats.upstream_rq_timeout += 1
            raise
        finally:
            self._end_retry()

    def _time_limit(self, delay_s: float, error: Callable[[], UpstreamError]) -> TimeLimit:
        """The time runs from when the client has sent all of the request: uploads may take long."""
        return TimeLimit(self._env.timers, delay_s, error, deferred=self._asked_s is None)

    def _request_ended(self) -> None:
        """Starts the route's timeout. Called when the client has sent the whole request, or when all of it
        was read, whichever is first."""
        if self._asked_s is not None:
            return
        self._asked_s = self._env.clock()
        for limit in (self._limit, self._attempt_limit):
            if limit is not None:
                limit.start()

    # One attempt.

    async def _attempt(self) -> Response:
        """A host, a connection to it, and the exchange."""
        request, cluster = self._request, self._cluster
        info = request.info
        info.attempts += 1
        if cluster.is_original_dst:
            host = await cluster.original_dst_host(info, request.authority)
        else:
            host = self._pick()
        self._prepare(host)
        lease = host.pool.checkout()
        if lease is None:
            lease = await self._wait_for_connection(host)
        try:
            cluster.begin_request(host)
        except UpstreamOverflowError:
            lease.give_back()
            raise
        info.upstream_peer_id = lease.connection.peer_id
        info.upstream_local_address = lease.connection.local_address
        try:
            response: Response = await self._send(lease)
        except BaseException as error:
            cluster.end_request(host)
            self._note_failure(host, lease, error)
            raise
        self._note_response(host, response)
        return response

    def _pick(self) -> Host:
        cluster = self._cluster
        host = cluster.pick(self._subset, self._tried, self._forward.retry.host_selection_attempts)
        if host is None:
            cluster.stats.upstream_cx_none_healthy += 1
            raise NoHealthyUpstreamError(f"cluster {cluster.name} has no healthy host")
        self._tried.append(host)
        return host

    def _prepare(self, host: Host) -> None:
        """What differs from attempt to attempt."""
        request, forward = self._request, self._forward
        info = request.info
        info.upstream_service_time_s = 0.0
        self._cluster.note_host(info, host)
        if self._body is not None:
            request.body = self._body.attempt()
        if self._include_attempt_count:
            set_header(request, b"x-envoy-attempt-count", b"%d" % info.attempts)
        if forward.timeout_s or forward.retry.per_try_timeout_s:
            set_header(request, b"x-envoy-expected-rq-timeout-ms", self._expected_timeout_ms())
        if forward.auto_host_rewrite and host.endpoint.hostname:
            self._take_hosts_name(host.endpoint.hostname.encode())

    def _take_hosts_name(self, authority: bytes) -> None:
        """What the client had asked for is noted by the first attempt; later ones just change the name."""
        if self._request.info.attempts > 1:
            self._request.authority = authority
            return
        append = self._forward.append_x_forwarded_host
        rewrite_authority(self._request, authority, append_x_forwarded_host=append)

    def _expected_timeout_ms(self) -> bytes:
        """How long this attempt may take; a later one has what the earlier ones have left of the route's."""
        forward = self._forward
        if self._request.info.attempts == 1 or forward.retry.per_try_timeout_s:
            return forward.expected_timeout_ms
        return timeout_ms(forward.timeout_s - (self._env.clock() - self._started_s))

    async def _wait_for_connection(self, host: Host) -> Lease:
        try:
            return await host.pool.acquire()
        except UpstreamConnectError as error:
            self._cluster.failed(host, error.status)
            raise

    def _send(self, lease: Lease) -> Awaitable[Response]:
        timeout_s = self._forward.retry.per_try_timeout_s
        if timeout_s == 0 or self._request.upgrade is not None:
            return lease.send(self._request)
        self._attempt_limit = self._time_limit(timeout_s, _attempt_timeout)
        return self._send_within(self._attempt_limit, lease)

    async def _send_within(self, limit: TimeLimit, lease: Lease) -> Response:
        with limit:
            response: Response = await lease.send(self._request)
        return response

    # What is learned from it.

    def _note_failure(self, host: Host, lease: Lease, error: BaseException) -> None:
        cluster, stats = self._cluster, self._cluster.stats
        if isinstance(error, UpstreamError):
            error.connection_reused = lease.reused
            cluster.failed(host, error.status)
            if isinstance(error, UpstreamPerTryTimeoutError):
                stats.upstream_rq_per_try_timeout += 1
                host.stats.rq_timeout += 1
            else:
                stats.upstream_rq_rx_reset += 1
        elif self._limit is not None and self._limit.expired:
            cluster.failed(host, UpstreamTimeoutError.status)
            host.stats.rq_timeout += 1
        elif isinstance(error, asyncio.CancelledError):
            stats.upstream_rq_cancelled += 1

    def _note_response(self, host: Host, response: Response) -> None:
        cluster, info = self._cluster, self._request.info
        # An answer that came before the request's end has taken no time.
        info.upstream_service_time_s = 0.0 if self._asked_s is None else self._env.clock() - self._asked_s
        cluster.responded(host, response.status, info.upstream_service_time_s)
        if response.body.whole is not None:
            cluster.end_request(host)
            return
        on_end = partial(cluster.end_request, host)
        response.body = CountedBody(response.body, on_end, self._env.timers, self._expires_s(response))

    def _expires_s(self, response: Response) -> float | None:
        limit = self._limit
        return None if limit is None or response.upgraded else limit.expires_s

    # Whether there is another one.

    def _retries_response(self, response: Response) -> bool:
        rules = self._forward.retry
        if rules.max_retries == 0 or not rules.wants_response_retried(response.status, response.headers):
            self._cluster.stats.upstream_rq_retry_success += self._retrying
            return False
        return self._may_retry()

    def _retries_error(self, error: UpstreamError) -> bool:
        rules = self._forward.retry
        if rules.max_retries > 0 and rules.wants_error_retried(error):
            return self._may_retry()
        if not self._repeated and is_safe_to_repeat(error, self._request.method):
            self._repeated = True
            return self._begin_retry()
        return False

    def _may_retry(self) -> bool:
        if self._retries == self._forward.retry.max_retries:
            self._cluster.stats.upstream_rq_retry_limit_exceeded += 1
            self._request.info.add_flag("URX")
            return False
        self._retries += 1
        return self._begin_retry()

    def _begin_retry(self) -> bool:
        """Whether the body can be sent again, and the circuit breaker lets it be."""
        self._end_retry()
        stats, breaker = self._cluster.stats, self._cluster.breaker
        if not self._is_replayable():
            stats.retry_or_shadow_abandoned += 1
            return False
        if not breaker.may_retry():
            stats.upstream_rq_retry_overflow += 1
            self._request.info.add_flag("UO")
            return False
        stats.upstream_rq_retry += 1
        breaker.retries += 1
        self._retrying = True
        return True

    def _is_replayable(self) -> bool:
        body = self._body
        if body is not None:
            return body.replayable
        if self._request.upgrade is not None:
            return True
        whole = self._request.body.whole
        return whole is not None and len(whole) <= self._forward.replay_limit_bytes

    def _end_retry(self) -> None:
        if self._retrying:
            self._retrying = False
            self._cluster.breaker.retries -= 1

    async def _back_off(self) -> None:
        """The default retry goes out at once: its first attempt never reached anybody."""
        if self._retries > 0:
            pause_s = self._forward.retry.back_off_s(self._retries, self._env.rng.random())
            await self._env.timers.sleep(pause_s)


def _route_timeout() -> UpstreamTimeoutError:
    return UpstreamTimeoutError("the upstream took longer to answer than the route allows")


def _attempt_timeout() -> UpstreamPerTryTimeoutError:
    return UpstreamPerTryTimeoutError("the upstream took longer to answer than one attempt may")
