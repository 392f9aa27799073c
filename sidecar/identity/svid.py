"""The workload's X.509-SVID, and the answer of an authority that becomes one when it is verified."""

from __future__ import annotations

from dataclasses import dataclass, field

from protos.spiffe import SpiffeId
from sidecar.identity.svid_pem import SvidPem


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCertificate:
    """The answer of an authority: PEM certificates, the leaf first, and all roots of the trust domain."""

    chain: tuple[str, ...]
    trust_bundle: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Svid:
    """Verified. PEM; ``chain`` starts with the leaf. ``begins_s`` and ``expires_s`` are seconds since the
    epoch. ``begins_s``: when it was received or, if its authority's clock is ahead, when it becomes valid."""

    spiffe_id: SpiffeId
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    trust_bundle: bytes = field(repr=False)
    begins_s: float
    expires_s: float

    def pem(self) -> SvidPem:
        return SvidPem(
            spiffe_id=self.spiffe_id, chain=self.chain, key=self.key, trust_bundle=self.trust_bundle
        )
