"""Nonces, ACKs and NACKs of one resource type on one stream. No I/O.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#ack-nack-and-resource-type-instance-version
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final

# A proxy that acknowledges nothing must not make us remember every response for ever.
_MAX_IN_FLIGHT: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A response that left. ``names`` is what it carried or removed."""

    nonce: str
    version: str
    names: frozenset[str]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A NACK, in the proxy's own words. ``names`` is what the response carried: at least one was wrong."""

    version: str
    nonce: str
    names: frozenset[str]
    reason: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    version: str
    nonce: str
    at: float


@dataclass(slots=True)
class Acknowledgements:
    """``accepted`` is the last response that the proxy took, and what it still runs after a ``rejection``;
    ``rejection`` goes away when a later response with some of the same resources is accepted."""

    sent: Sent | None = None
    accepted: Accepted | None = None
    rejection: Rejection | None = None
    in_flight: dict[str, Sent] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Every response was answered, by ACK or NACK, or there was none."""
        return not self.in_flight

    @property
    def awaited(self) -> Sent | None:
        """The response whose answer is waited for longest; if none is, the last one."""
        return next(iter(self.in_flight.values()), self.sent)

    def is_last(self, nonce: str) -> bool:
        return self.sent is not None and self.sent.nonce == nonce

    def record(self, sent: Sent) -> None:
        self.sent = sent
        self.in_flight[sent.nonce] = sent
        if len(self.in_flight) > _MAX_IN_FLIGHT:
            del self.in_flight[next(iter(self.in_flight))]

    def settle(self, nonce: str, reason: str | None, now: float) -> frozenset[str]:
        """Records the answer to ``nonce``: a NACK if there is a ``reason``. Returns the names that need no
        longer be waited for. A stream keeps order, so earlier responses were received too."""
        answered = self.in_flight.get(nonce)
        if answered is None:
            return frozenset()
        names: set[str] = set()
        for earlier in list(self.in_flight):
            names |= self.in_flight.pop(earlier).names
            if earlier == nonce:
                break
        if reason is not None:
            self.rejection = Rejection(
                version=answered.version, nonce=nonce, names=answered.names, reason=reason, at=now
            )
            return frozenset(names)
        self.accepted = Accepted(version=answered.version, nonce=nonce, at=now)
        if self.rejection is not None and _mends(answered, self.rejection):
            self.rejection = None
        return frozenset(names)

    def forget_rejection_of_all_but(self, wanted: Set[str]) -> None:
        """The proxy no longer wants what it rejected."""
        if self.rejection is not None and self.rejection.names and self.rejection.names.isdisjoint(wanted):
            self.rejection = None


def _mends(accepted: Sent, rejection: Rejection) -> bool:
    """What was on its way already when the proxy rejected, or does not concern what it rejected, does not."""
    concerns = not rejection.names or not rejection.names.isdisjoint(accepted.names)
    return concerns and accepted.at > rejection.at
