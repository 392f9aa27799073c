"""SPIFFE ids of workloads: ``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``.

The format is defined by the SPIFFE-ID standard, and the path by Istio, so that policies for Istio match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# SPIFFE-ID 2.1: a trust domain is lower-case letters, digits, dots, dashes and underscores.
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}\Z")
# Kubernetes names: RFC 1123 labels, and subdomains for service accounts.
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_SERVICE_ACCOUNT = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A workload's identity. Raises ``ValueError`` for an invalid part."""

    trust_domain: str
    namespace: str
    service_account: str

    def __post_init__(self) -> None:
        if not _TRUST_DOMAIN.match(self.trust_domain):
            raise ValueError(f"not a trust domain: {self.trust_domain!r}")
        if not _NAMESPACE.match(self.namespace):
            raise ValueError(f"not a namespace: {self.namespace!r}")
        if not _SERVICE_ACCOUNT.match(self.service_account):
            raise ValueError(f"not a service account: {self.service_account!r}")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @classmethod
    def parse(cls, uri: str) -> SpiffeId:
        """Parses a URI SAN. Raises ``ValueError`` if it is not a workload's SPIFFE id."""
        scheme, separator, rest = uri.partition("://")
        parts = rest.split("/")
        if scheme != "spiffe" or not separator or len(parts) != 5 or parts[1] != "ns" or parts[3] != "sa":
            raise ValueError(f"not a workload's SPIFFE id: {uri!r}")
        return cls(parts[0], parts[2], parts[4])
