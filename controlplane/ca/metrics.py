"""The authority's metrics, by istiod's names."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

CSRS: Final = Counter("citadel_server_csr_count", "Certificate signing requests received.")
ISSUED: Final = Counter("citadel_server_success_cert_issuance_count", "Certificates issued.")
AUTHENTICATION_FAILURES: Final = Counter(
    "citadel_server_authentication_failure_count", "Requests refused because the caller proved no identity."
)
CSR_ERRORS: Final = Counter(
    "citadel_server_csr_parsing_err_count", "Requests refused because the CSR was not acceptable."
)
IDENTITY_ERRORS: Final = Counter(
    "citadel_server_id_extraction_err_count", "Requests refused because the CSR asked for another identity."
)
SIGNING_ERRORS: Final = Counter(
    "citadel_server_csr_sign_err_count", "Requests that the authority could not sign."
)
ROOT_EXPIRY: Final = Gauge(
    "citadel_server_root_cert_expiry_timestamp",
    "When the first root of the trust bundle expires, in seconds since the epoch.",
)
CHAIN_EXPIRY: Final = Gauge(
    "citadel_server_cert_chain_expiry_timestamp",
    "When the signing certificate, or an intermediate above it, expires, in seconds since the epoch.",
)
