"""Hosts by DNS: each name of a cluster is resolved again and again, on its own, and becomes endpoints.

Source: ``STRICT_DNS`` (every address is a host) and ``LOGICAL_DNS`` (the first address is the one host) of
``envoy.config.cluster.v3.Cluster.DiscoveryType``. As in Envoy, a name that does not exist has no hosts in a
STRICT_DNS cluster, and keeps the one that it had in a LOGICAL_DNS cluster; a failure keeps hosts in both.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from sidecar.back_off import back_off_limit_s
from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.dns import SYSTEM_RESOLVER, DnsBackOff, DnsResolver
from sidecar.config.endpoint import Endpoint, LoadAssignment, SocketAddress
from sidecar.errors import NameResolutionError
from sidecar.observability.stats import ClusterStats
from sidecar.upstream.dns.question import Answer, Question, Resolve
from sidecar.upstream.original_dst import is_ip_address

_LOG = logging.getLogger(__name__)

DNS_KINDS = frozenset((Discovery.STRICT_DNS, Discovery.LOGICAL_DNS))


@dataclass(slots=True)
class _Name:
    """``addresses`` None: no answer yet. ``asked``: whether a look-up is over. ``due_s``: when to ask
    next, in the loop's time."""

    question: Question
    addresses: tuple[str, ...] | None = None
    asked: bool = False
    due_s: float = 0.0
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsEnvironment:
    """``default_resolver`` is the bootstrap file's."""

    resolve: Resolve
    loop: asyncio.AbstractEventLoop
    default_resolver: DnsResolver = SYSTEM_RESOLVER
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform


class DnsDiscovery:
    """Follows the names of one cluster's load assignment, from `start` until `stop`.

    ``on_change`` is told of each change of what they stand for, from a task of the loop, never from within a
    call. ``predecessor``, of the same cluster with an older configuration, is not asked again for what it
    knows.
    """

    def __init__(
        self,
        config: ClusterConfig,
        stats: ClusterStats,
        env: DnsEnvironment,
        on_change: Callable[[], None],
        predecessor: DnsDiscovery | None = None,
    ) -> None:
        self.config = config
        self.on_change = on_change
        self._stats = stats
        self._env = env
        self._assignment = config.load_assignment or LoadAssignment(cluster_name=config.name)
        self._tasks: list[asyncio.Task[None]] = []
        names = {endpoint.address.host for endpoint in self._assignment.endpoints}
        same_kind = predecessor is not None and predecessor.config.discovery is config.discovery
        known = predecessor.names if predecessor is not None and same_kind else {}
        self.names: dict[str, _Name] = {
            name: self._name(name, known.get(name)) for name in names if not is_ip_address(name)
        }

    def _name(self, name: str, known: _Name | None) -> _Name:
        dns = self.config.dns
        question = Question(name, dns.lookup_family, dns.resolver or self._env.default_resolver)
        if known is None or known.question != question or known.addresses is None:
            return _Name(question)
        # The time of the next look-up is the old configuration's, unless the new one asks for an earlier one.
        due_s = min(known.due_s, self._env.loop.time() + dns.refresh_rate_s)
        return _Name(question, known.addresses, asked=True, due_s=due_s)

    def start(self) -> None:
        for name in self.names.values():
            task = self._env.loop.create_task(
                self._follow(name), name=f"follow {name.question.name} of {self.config.name}"
            )
            task.add_done_callback(_log_failure)
            self._tasks.append(task)

    def stop(self) -> list[asyncio.Task[None]]:
        """The tasks, which end with the loop's next turn."""
        for task in self._tasks:
            task.cancel()
        return self._tasks

    @property
    def warm(self) -> bool:
        """Whether the cluster can serve, as something has an address, or each name was asked for once."""
        return bool(self.assignment.endpoints) or all(name.asked for name in self.names.values())

    @property
    def assignment(self) -> LoadAssignment:
        """The endpoints that are known now, in the order of the configuration."""
        endpoints = [found for endpoint in self._assignment.endpoints for found in self._found(endpoint)]
        return replace(self._assignment, endpoints=tuple(endpoints))

    def _found(self, endpoint: Endpoint) -> list[Endpoint]:
        name = self.names.get(endpoint.address.host)
        if name is None:
            return [endpoint]
        hostname = endpoint.hostname or name.question.name
        return [
            replace(endpoint, address=SocketAddress(address, endpoint.address.port), hostname=hostname)
            for address in name.addresses or ()
        ]

    async def _follow(self, name: _Name) -> None:
        while True:
            wait_s = name.due_s - self._env.loop.time()
            if name.asked and wait_s > 0:
                await self._env.sleep(wait_s)
            addresses, delay_s = await self._look_up(name)
            name.due_s = self._env.loop.time() + delay_s
            changed = not name.asked or addresses != name.addresses
            name.addresses, name.asked = addresses, True
            if changed:
                self.on_change()

    async def _look_up(self, name: _Name) -> tuple[tuple[str, ...] | None, float]:
        """The addresses from now on, and after how many seconds to ask again."""
        stats, dns = self._stats, self.config.dns
        stats.update_attempt += 1
        try:
            answer = await self._env.resolve(name.question)
            if self.config.discovery is Discovery.LOGICAL_DNS and not answer.addresses:
                raise NameResolutionError("it has no address")
        except NameResolutionError as error:
            stats.update_failure += 1
            if not name.failures:
                _LOG.warning(
                    "cluster %s: %s cannot be resolved: %s", self.config.name, name.question.name, error
                )
            name.failures += 1
            return name.addresses, self._after_failure_s(dns.failure_back_off, name.failures)
        stats.update_success += 1
        name.failures = 0
        delay_s = answer.ttl_s if dns.respect_ttl and answer.ttl_s else dns.refresh_rate_s
        return self._hosts(answer), delay_s + self._env.uniform(0.0, dns.jitter_s)

    def _hosts(self, answer: Answer) -> tuple[str, ...]:
        """In an order that does not change with the server's, where all of them are used."""
        if self.config.discovery is Discovery.LOGICAL_DNS:
            return answer.addresses[:1]
        return tuple(sorted(answer.addresses))

    def _after_failure_s(self, back_off: DnsBackOff | None, failures: int) -> float:
        if back_off is None:
            return self.config.dns.refresh_rate_s
        limit_s = back_off_limit_s(failures, base_s=back_off.base_s, max_s=back_off.max_s)
        return self._env.uniform(0.0, limit_s)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOG.error("the task %s has failed", task.get_name(), exc_info=error)
