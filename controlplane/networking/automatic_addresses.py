"""Virtual IPs for the hosts of ServiceEntries that have none, as Istio assigns them. The name table resolves
the host to them, and the listeners on them tell apart services of plain TCP that have the same port.

The addresses are a function of the services alone, so that every replica, and the next process, assigns the
same ones. The hash of a host chooses its slot, and the senior host keeps a slot that two hosts choose: a new
host never takes the address of an older one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from controlplane.model.service import Service
from controlplane.networking.build_cache import BuildCache, cached

_LOG = logging.getLogger(__name__)

# A slot is the last two bytes of an address in 240.240.0.0/16 (reserved by RFC 1112 section 4) and
# 2001:2::/48 (for benchmarks, RFC 5180 section 8). As in Istio, no address ends with the byte 0 or 255.
_LAST_BYTES: Final = 254
SLOTS: Final = 256 * _LAST_BYTES


@dataclass(frozen=True, slots=True)
class AutomaticAddress:
    v4: str
    v6: str

    def of(self, families: frozenset[int]) -> tuple[str, ...]:
        """The addresses of these IP versions."""
        return tuple(address for version, address in ((4, self.v4), (6, self.v6)) if version in families)


@cached()
def automatic_addresses(
    cache: BuildCache, services: Mapping[str, Service], further_services: Mapping[str, tuple[Service, ...]]
) -> Mapping[str, AutomaticAddress]:
    """By host name. One owner of a host counts for each client, so that owners can share the address."""
    del cache
    candidates = sorted(_candidates(services, further_services))
    slots = assign(hostname for _, hostname in candidates)
    if len(slots) < len(candidates):
        _LOG.warning(
            "%d hosts of ServiceEntries have no automatic address: all %d are assigned",
            len(candidates) - len(slots),
            SLOTS,
        )
    return {hostname: _address(slot) for hostname, slot in slots.items()}


def assign(hostnames: Iterable[str], slots: int = SLOTS) -> dict[str, int]:
    """A slot for each of the first hosts, the senior ones first: the one that its hash chooses, or the next
    free one."""
    assigned: dict[str, int] = {}
    taken: set[int] = set()
    for hostname in hostnames:
        if len(taken) == slots:
            break
        slot = int.from_bytes(blake2b(hostname.encode(), digest_size=8).digest()) % slots
        while slot in taken:
            slot = (slot + 1) % slots
        taken.add(slot)
        assigned[hostname] = slot
    return assigned


def _candidates(
    services: Mapping[str, Service], further_services: Mapping[str, tuple[Service, ...]]
) -> Iterator[tuple[tuple[bool, str, str, str], str]]:
    """The hosts that need an address, with the seniority of their oldest declaration."""
    for hostname, first in services.items():
        declared = (first, *further_services.get(hostname, ()))
        seniorities = [each.seniority for each in declared if each.automatic_address]
        if seniorities:
            yield min(seniorities), hostname


def _address(slot: int) -> AutomaticAddress:
    third, fourth = slot // _LAST_BYTES, slot % _LAST_BYTES + 1
    return AutomaticAddress(v4=f"240.240.{third}.{fourth}", v6=f"2001:2::f0f0:{third << 8 | fourth:x}")
