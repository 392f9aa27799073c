"""The authority's metrics. Their names are istiod's."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge


class AuthorityMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests: Final = Counter(
            "citadel_server_csr_count", "Certificate signing requests received.", registry=registry
        )
        self.issued: Final = Counter(
            "citadel_server_success_cert_issuance_count", "Certificates issued.", registry=registry
        )
        self.authentication_failures: Final = Counter(
            "citadel_server_authentication_failure_count",
            "Requests rejected because the caller's token was missing or invalid.",
            registry=registry,
        )
        self.csr_errors: Final = Counter(
            "citadel_server_csr_parsing_err_count",
            "Requests rejected because the CSR was invalid.",
            registry=registry,
        )
        self.identity_errors: Final = Counter(
            "citadel_server_id_extraction_err_count",
            "Requests rejected because the CSR requested another identity.",
            registry=registry,
        )
        self.signing_errors: Final = Counter(
            "citadel_server_csr_sign_err_count",
            "Requests that the authority could not sign.",
            registry=registry,
        )
        self.root_expiry: Final = Gauge(
            "citadel_server_root_cert_expiry_timestamp",
            "When the first root of the trust bundle expires, in seconds since the epoch.",
            registry=registry,
        )
        self.chain_expiry: Final = Gauge(
            "citadel_server_cert_chain_expiry_timestamp",
            "When the first certificate of the signing chain expires, in seconds since the epoch.",
            registry=registry,
        )
