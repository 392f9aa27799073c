"""Resolves names with c-ares, asynchronously. ``/etc/hosts``, search domains and ``ndots`` are honoured.

Address families and their order are those of Envoy's ``dns_lookup_family``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sidecar.config.dns import DnsLookupFamily, DnsResolver
from sidecar.errors import NameResolutionError
from sidecar.upstream.dns.question import Answer, Question

if TYPE_CHECKING:
    from sidecar.upstream.dns.channel import Channel, Found

# c-ares answers from its cache, so a channel is not used for longer.
LIFETIME_S = 1.0
_ARES_AI_NOSORT = 1 << 7  # the binding has no name for it
# The families to look up, in the order of preference.
_FAMILIES = {
    DnsLookupFamily.AUTO: (socket.AF_INET6, socket.AF_INET),
    DnsLookupFamily.V4_PREFERRED: (socket.AF_INET, socket.AF_INET6),
    DnsLookupFamily.V4_ONLY: (socket.AF_INET,),
    DnsLookupFamily.V6_ONLY: (socket.AF_INET6,),
    DnsLookupFamily.ALL: (socket.AF_INET, socket.AF_INET6),
}
# Addresses of the networks for documentation, which no host has: a route to them is a default route.
_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def is_routable(family: socket.AddressFamily) -> bool:
    """``filter_unroutable_families``: whether this machine has a default route. Sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_ELSEWHERE[family], 9))
    except OSError:
        return False
    return True


class CaresResolver:
    """A `Resolve`. ``routable`` are the address families that lead out of this machine."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        routable: Callable[[socket.AddressFamily], bool] = is_routable,
    ) -> None:
        self._loop = loop
        self._routable = routable
        self._channels: dict[DnsResolver, Channel] = {}
        self._retired: list[Channel] = []

    async def __call__(self, question: Question) -> Answer:
        """Raises `NameResolutionError` if no server answered, or not in time."""
        limit_s = question.resolver.look_up_limit_s
        try:
            async with asyncio.timeout(limit_s):
                return _answer(await self._find(question))
        except TimeoutError:
            raise NameResolutionError(f"no answer within {limit_s:g} s") from None

    async def _find(self, question: Question) -> list[Found]:
        families = _FAMILIES[question.family]
        if question.resolver.routable_families_alone:
            families = tuple(family for family in families if self._routable(family))
        flags = 0 if question.by_reachability else _ARES_AI_NOSORT
        together = question.family is DnsLookupFamily.ALL
        with self._channel(question) as channel:
            if together and question.by_reachability and len(families) == 2:
                return [await channel.look_up(question.name, socket.AF_UNSPEC, flags)]
            return await self._each(channel, question, families, flags, together=together)

    async def _each(
        self,
        channel: Channel,
        question: Question,
        families: Sequence[socket.AddressFamily],
        flags: int,
        *,
        together: bool,
    ) -> list[Found]:
        """One look-up for each family: all at once if all addresses are needed, otherwise each only if the
        look-ups before it have found nothing. Some servers never answer for a family that they do not know,
        so the wait for one family is not longer than for one query."""
        patience_s = question.resolver.query_timeout_s
        begun: list[asyncio.Future[Found]] = []
        for family in families:
            begun.append(channel.look_up(question.name, family, flags))
            if not together:
                await asyncio.wait(begun[-1:], timeout=patience_s)
                if _has_found(begun[-1]):
                    break
        pending = {future for future in begun if not future.done()}
        while pending and not any(map(_has_found, begun)):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending and together:
            await asyncio.wait(pending, timeout=patience_s)
        found = [future.result() for future in begun if _has_found(future)]
        if not found:
            return [future.result() for future in begun]
        return found if together else found[:1]

    def _channel(self, question: Question) -> Channel:
        config = question.resolver
        channel = self._channels.get(config)
        if channel is not None and channel.knows(question.name):
            self._retire(config, channel)
            channel = None
        if channel is None:
            # c-ares takes 3 MB, and many configurations resolve no name.
            from sidecar.upstream.dns.channel import Channel  # noqa: PLC0415

            channel = Channel(config, self._loop)
            self._channels[config] = channel
            self._loop.call_later(LIFETIME_S, self._retire, config, channel)
        return channel

    def _retire(self, config: DnsResolver, channel: Channel) -> None:
        if self._channels.get(config) is channel:
            del self._channels[config]
            channel.retire()
            self._retired = [retired for retired in (*self._retired, channel) if not retired.closed]

    def close(self) -> None:
        """Active look-ups fail."""
        for channel in (*self._channels.values(), *self._retired):
            channel.close()
        self._channels.clear()
        self._retired.clear()


def _has_found(future: asyncio.Future[Found]) -> bool:
    if not future.done():
        return False
    found = future.result()
    return found is not None and not isinstance(found, NameResolutionError) and bool(found.nodes)


def _answer(found: Sequence[Found]) -> Answer:
    """Raises the error of a failed look-up if no other one has found an address: the name may have one."""
    results = [
        result for result in found if result is not None and not isinstance(result, NameResolutionError)
    ]
    addresses = [node.addr[0].decode() for result in results for node in result.nodes]
    ttls = [node.ttl for result in results for node in result.nodes]
    ttls += [cname.ttl for result in results for cname in result.cnames]
    for result in found:
        if isinstance(result, NameResolutionError) and not addresses:
            raise result
    return Answer(tuple(dict.fromkeys(addresses)), min(ttls, default=0))
