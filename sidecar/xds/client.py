"""The ADS stream, which is opened again whenever it ends.

Accepted resources stay in force while the control plane is unreachable; a new stream begins with the names
and versions of the resources that are held.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from protos import type_urls
from sidecar.back_off import BackOff
from sidecar.config.bootstrap import Ads, Bootstrap
from sidecar.config.snapshot import Snapshot
from sidecar.errors import IdentityError
from sidecar.grpc.call import Call, open_call
from sidecar.grpc.call_stats import ClusterCalls
from sidecar.grpc.errors import GrpcError
from sidecar.grpc_status import GrpcStatus
from sidecar.xds.channel import target
from sidecar.xds.config_dump import ConfigDump
from sidecar.xds.persistence import LastGoodWriter
from sidecar.xds.state import XdsState
from sidecar.xds.subscription import Request, Subscriptions
from sidecar.xds.updates import OnSnapshot, ResolveFirst, Updates
from sidecar.xds.wire import METHODS, XdsResponse, parse, serialize

_LOG = logging.getLogger(__name__)

BACK_OFF: Final = BackOff(base_s=0.5, max_s=30.0)
# Listeners are requested when clusters are known; a control plane without clusters may not respond.
_CLUSTERS_TIMEOUT_S: Final = 15.0
# The sidecar is not ready before it has the name table; a control plane without one may not respond.
NAMES_TIMEOUT_S: Final = 2 * _CLUSTERS_TIMEOUT_S
_UNKNOWN_TYPE: Final = (GrpcStatus.INVALID_ARGUMENT, GrpcStatus.UNIMPLEMENTED)
_TOGETHER_S: Final = 0.005


class XdsClient:
    """Passes a `Snapshot` to ``on_snapshot`` each time that a changed resource is ready to be served.

    ``resolve_first`` starts the look-ups that clusters wait for; `clusters_warmed` is called when they end.
    If ``cache_dir`` is None, no last good configuration is kept. ``token`` is called for each stream; if it
    raises `IdentityError`, the stream is tried again later, as after a lost connection. ``names``: the name
    table is requested. ``calls``: the statistics of the control plane's cluster.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        on_snapshot: OnSnapshot,
        *,
        cache_dir: Path | None = None,
        token: Callable[[], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Callable[[float, float], float] = random.uniform,
        resolve_first: ResolveFirst | None = None,
        names: bool = False,
        calls: ClusterCalls | None = None,
    ) -> None:
        self.state = XdsState()
        self._bootstrap = bootstrap
        self._token = token
        self._names = names
        self._calls = calls or ClusterCalls()
        self._clock = clock
        self._sleep = sleep
        self._uniform = uniform
        self._updates = Updates(
            bootstrap,
            on_snapshot,
            self.state,
            clock=clock,
            wall_clock=wall_clock,
            resolve_first=resolve_first,
        )
        self._last_good = self._updates.restore(cache_dir) if cache_dir else None
        self._writer = (
            LastGoodWriter(cache_dir, bootstrap.node_id, self._updates.saved) if cache_dir else None
        )
        self._call: Call | None = None
        self._where = ""  # the address of the stream, or all addresses that are tried; for logs
        self._unsent_node = b""
        self._subscriptions: Subscriptions | None = None
        # When accepted resources may have become ready to be published.
        self._due = asyncio.Event()
        self._deadline: asyncio.TimerHandle | None = None
        self._warmed: asyncio.TimerHandle | None = None
        self._ended = False

    def last_good(self) -> Snapshot | None:
        """The resources that an earlier process saved, together with the static ones; None if no resources
        were saved."""
        return self._last_good

    @property
    def warming(self) -> bool:
        """Whether an accepted resource still waits for resources that it refers to."""
        warming = self._updates.warming
        return bool(warming.warming_clusters or warming.warming_listeners)

    @property
    def warming_clusters(self) -> int:
        return len(self._updates.warming.warming_clusters)

    def clusters_warmed(self) -> None:
        """Called when the answer of ``resolve_first`` may have changed. Many names are resolved at
        about the same time: the resources that become ready are published together."""
        if self._warmed is None and not self._ended:
            self._warmed = asyncio.get_running_loop().call_later(_TOGETHER_S, self._end_warming)

    def _end_warming(self) -> None:
        self._warmed = None
        self._due.set()

    def config_dump(
        self, *, include_eds: bool = False, resource: str | None = None, name_regex: str | None = None
    ) -> dict[str, Any]:
        """The same as `ConfigDump.render`. Raises `ConfigError` for an invalid ``resource`` or
        ``name_regex``."""
        dump = ConfigDump(self._bootstrap, self._updates.store, self._updates.warming, self.state)
        return dump.render(include_eds=include_eds, resource=resource, name_regex=name_regex)

    async def run(self) -> None:
        """Runs until it is cancelled. Resources that are held already are published at once, before the
        stream is open."""
        ads = self._bootstrap.ads
        tasks: list[asyncio.Task[None]] = []
        try:
            if ads is not None:
                self._subscriptions = Subscriptions(
                    ads.variant, clusters=ads.clusters, listeners=ads.listeners, names=self._names
                )
            await self._publish()
            tasks.append(asyncio.create_task(self._publish_when_due(), name="xds-publish"))
            if ads is not None and self._subscriptions is not None:
                tasks.append(asyncio.create_task(self._follow(ads, self._subscriptions), name="xds-stream"))
            if self._writer is not None:
                tasks.append(asyncio.create_task(self._writer.run(), name="xds-last-good"))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*(task for task in tasks if task.done()))  # none ends without an error
        finally:
            self._ended = True
            for timer in (self._deadline, self._warmed):
                if timer is not None:
                    timer.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _publish_when_due(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            await self._publish()

    async def _follow(self, ads: Ads, subscriptions: Subscriptions) -> None:
        """Opens one stream after the other, each to a replica that has not failed lately, if there is
        one."""
        failures = 0
        while True:
            self._where = ", ".join(str(endpoint.address) for endpoint in ads.endpoints)
            try:
                await self._stream(ads, subscriptions)
                reason = "the control plane ended the stream"
            except GrpcError as error:
                if error.status in _UNKNOWN_TYPE and subscriptions.drop_unanswered_names():
                    _LOG.warning("the control plane knows no name tables: no further stream requests one")
                reason = str(error)
            except (DecodeError, IdentityError) as error:
                reason = str(error)
            failures = 1 if self.state.connected else failures + 1
            delay_s = self._uniform(0.0, BACK_OFF.longest_s(failures))
            self._note_lost(f"{self._where}: {reason}", delay_s)
            await self._sleep(delay_s)

    def _note_lost(self, reason: str, delay_s: float) -> None:
        if reason != self.state.last_error:  # once for each reason
            _LOG.warning(
                "xDS stream to %s; the configuration stays in force; next try in %.1f s", reason, delay_s
            )
        self.state.connected = False
        self.state.last_error = reason
        for state in self.state.types.values():
            state.update_failure += 1

    async def _stream(self, ads: Ads, subscriptions: Subscriptions) -> None:
        """Returns when the stream ends. Raises `GrpcError` when it fails."""
        held = self._updates.store.versions
        call = await open_call(
            target(ads, self._calls), METHODS[ads.variant], self._metadata(ads), endless=True
        )
        self._where = str(call.replica.address)
        # Requests from the time without a stream were dropped: a new stream begins with all subscriptions.
        self._call, self._unsent_node = call, self._bootstrap.node
        self._send(subscriptions.open(held))
        listeners = asyncio.get_running_loop().call_later(
            _CLUSTERS_TIMEOUT_S, lambda: self._send(subscriptions.release_listeners(held))
        )
        names = asyncio.get_running_loop().call_later(NAMES_TIMEOUT_S, self._miss_names, subscriptions)
        try:
            while (data := await call.receive()) is not None:
                self._note_connected()
                await self._respond(subscriptions, parse(ads.variant, data))
        finally:
            listeners.cancel()
            names.cancel()
            self._call = None
            call.close()

    def _miss_names(self, subscriptions: Subscriptions) -> None:
        if subscriptions.stop_waiting_for_names():
            _LOG.warning("the control plane has sent no name table: all DNS queries are passed on")
            self._follow_up(subscriptions)

    def _metadata(self, ads: Ads) -> tuple[tuple[str, str], ...]:
        if self._token is None:
            return ads.metadata
        return (*ads.metadata, ("authorization", f"Bearer {self._token()}"))

    def _note_connected(self) -> None:
        if not self.state.connected:
            _LOG.info("xDS stream is open, to %s", self._where)
        self.state.connected = True
        self.state.last_error = ""

    async def _respond(self, subscriptions: Subscriptions, response: XdsResponse) -> None:
        type_url = response.type_url
        if not subscriptions.expects(type_url):
            _LOG.warning("ignored a response of type %r, which was not requested", type_url)
            return
        self.state.types[type_url].update_attempt += 1
        outcome = await self._updates.apply(response)
        self._send(subscriptions.answer(type_url, response.version, response.nonce, outcome.error))
        if outcome.listener_error:
            self._refuse_listeners(subscriptions, outcome.listener_error)
        if type_url == type_urls.CLUSTER:
            self._send(subscriptions.release_listeners(self._updates.store.versions))
        self._follow_up(subscriptions)

    async def _publish(self) -> None:
        """Called when the process starts, and when a wait of a warming resource ends."""
        errors = await self._updates.publish()
        subscriptions = self._subscriptions
        if subscriptions is None:
            return
        if errors:
            self._refuse_listeners(subscriptions, "\n".join(errors))
        self._follow_up(subscriptions)

    def _refuse_listeners(self, subscriptions: Subscriptions, error: str) -> None:
        self._updates.note_refusal(type_urls.LISTENER, error)
        self._send(subscriptions.refuse_late(type_urls.LISTENER, error))

    def _follow_up(self, subscriptions: Subscriptions) -> None:
        """Updates all that depends on the published resources: subscriptions, the next deadline, the saved
        file."""
        self._want(subscriptions)
        self.state.synced = self.state.synced or (subscriptions.synced and not self._updates.warming.waits)
        if self._writer is not None:
            self._writer.changed()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        deadline = self._updates.warming.next_deadline()
        if deadline is not None:
            delay_s = max(0.0, deadline - self._clock())
            self._deadline = asyncio.get_running_loop().call_later(delay_s, self._due.set)

    def _want(self, subscriptions: Subscriptions) -> None:
        """Subscribes to the names that resources refer to, and drops the others."""
        warming, store = self._updates.warming, self._updates.store
        for type_url, names in (
            (type_urls.ENDPOINT, warming.wanted_endpoints()),
            (type_urls.ROUTE, warming.wanted_routes()),
        ):
            self._send(subscriptions.want(type_url, names))
            store.keep_only(type_url, names)

    def _send(self, requests: Iterable[Request]) -> None:
        """Only the first request of a stream carries the node."""
        call = self._call
        if call is None:
            return
        for request in requests:
            call.send(serialize(request, self._unsent_node))
            self._unsent_node = b""
