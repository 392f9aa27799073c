"""Nonces, ACKs and NACKs of one resource type on one stream. No I/O.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#ack-nack-and-resource-type-instance-version
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final

# Bounds the memory for a proxy that never acknowledges.
_MAX_IN_FLIGHT: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A response that was sent. ``names`` are the resources that it contained or removed."""

    nonce: str
    version: str
    names: frozenset[str]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A NACK. ``reason`` is the proxy's text. ``names`` are the resources of the rejected response, of which
    at least one was invalid."""

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
    """The responses of one type on one stream. ``accepted`` is the last response that the proxy accepted; the
    proxy keeps using it after a ``rejection``. ``rejection`` is cleared when the proxy accepts a later
    response with some of the same resources."""

    sent: Sent | None = None
    accepted: Accepted | None = None
    rejection: Rejection | None = None
    in_flight: dict[str, Sent] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Whether the proxy has answered every response with an ACK or a NACK."""
        return not self.in_flight

    @property
    def awaited(self) -> Sent | None:
        """The oldest response without an answer or, if all are answered, the last response."""
        return next(iter(self.in_flight.values()), self.sent)

    def is_last(self, nonce: str) -> bool:
        return self.sent is not None and self.sent.nonce == nonce

    def record(self, sent: Sent) -> None:
        self.sent = sent
        self.in_flight[sent.nonce] = sent
        if len(self.in_flight) > _MAX_IN_FLIGHT:
            del self.in_flight[next(iter(self.in_flight))]

    def settle(self, nonce: str, reason: str | None, now: float) -> frozenset[str]:
        """Records the answer to ``nonce``: a NACK if there is a ``reason``, otherwise an ACK. Returns the
        names of the resources that are now answered. A stream is ordered, so the answer also covers all
        earlier responses."""
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
        """Clears the rejection if the proxy no longer subscribes to any rejected resource."""
        if self.rejection is not None and self.rejection.names and self.rejection.names.isdisjoint(wanted):
            self.rejection = None


def _mends(accepted: Sent, rejection: Rejection) -> bool:
    """Whether an accepted response ends a rejection: it was sent after the rejection and contains some of the
    same resources."""
    concerns = not rejection.names or not rejection.names.isdisjoint(accepted.names)
    return concerns and accepted.at > rejection.at
