"""The folder in which an agent stores the workload's certificate for an Envoy. The names of the PEM files are
Istio's."""

from __future__ import annotations

from typing import Final

CERTIFICATE_CHAIN_FILE: Final = "cert-chain.pem"
PRIVATE_KEY_FILE: Final = "key.pem"
TRUST_BUNDLE_FILE: Final = "root-cert.pem"


def secret_file(name: str) -> str:
    """The file with the ``DiscoveryResponse`` that contains the secret of this name (`protos.node`)."""
    return f"{name}.json"
