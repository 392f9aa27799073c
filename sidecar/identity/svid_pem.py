"""The workload's SVID in the form in which it is given to TLS contexts, and to a worker."""

from __future__ import annotations

from dataclasses import dataclass, field

from protos.spiffe import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class SvidPem:
    """PEM; ``chain`` starts with the leaf. A `WorkloadKey` refuses to be pickled, this value does not: it is
    the one form in which the key may reach another process of the same sidecar, and nothing else."""

    spiffe_id: SpiffeId
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    trust_bundle: bytes = field(repr=False)
