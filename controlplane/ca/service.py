"""The signing service of ``protos/ca.proto``: it authenticates a token, checks a CSR and returns a
certificate, or an error with the reason."""

from __future__ import annotations

import logging
from typing import Final

import grpc

from controlplane.ca import csr
from controlplane.ca.authentication import Authenticator, Metadata
from controlplane.ca.authority import Authority, IssuedCertificate
from controlplane.ca.metrics import AuthorityMetrics
from controlplane.errors import (
    AuthorityError,
    AuthorityUnavailableError,
    InvalidRequestError,
    PermissionDeniedError,
    RequestTooLargeError,
    UnauthenticatedError,
)
from controlplane.grpc_status import status_of
from protos import ca_pb2_grpc
from protos.ca_pb2 import CreateCertificateRequest, CreateCertificateResponse

_LOG = logging.getLogger(__name__)


class CertificateService(ca_pb2_grpc.CertificateServiceServicer):
    """Must be served over TLS only: a stolen token is enough to obtain a certificate for its identity."""

    def __init__(self, authority: Authority, authenticator: Authenticator, metrics: AuthorityMetrics) -> None:
        self._authority: Final = authority
        self._authenticator: Final = authenticator
        self._metrics: Final = metrics
        self._refusals: Final = {
            UnauthenticatedError: metrics.authentication_failures,
            PermissionDeniedError: metrics.identity_errors,
            InvalidRequestError: metrics.csr_errors,
            RequestTooLargeError: metrics.csr_errors,
            AuthorityUnavailableError: metrics.signing_errors,
        }
        metrics.root_expiry.set_function(self._root_expires_s)
        metrics.chain_expiry.set_function(self._signer_expires_s)

    def add_to(self, server: grpc.aio.Server) -> None:
        ca_pb2_grpc.add_CertificateServiceServicer_to_server(self, server)

    async def CreateCertificate(
        self, request: CreateCertificateRequest, context: grpc.aio.ServicerContext
    ) -> CreateCertificateResponse:
        self._metrics.requests.inc()
        try:
            issued = await self._issue(request, context.invocation_metadata() or ())
        except AuthorityError as error:
            self._refusals[type(error)].inc()
            status = status_of(error)
            _LOG.warning("rejected the certificate request of %s: %s: %s", context.peer(), status.name, error)
            await context.abort(status, str(error))
        self._metrics.issued.inc()
        return CreateCertificateResponse(
            certificate_chain=issued.chain_pem, trust_bundle=self._authority.trust_bundle_pem
        )

    def _root_expires_s(self) -> float:
        return self._authority.root_expires.timestamp()

    def _signer_expires_s(self) -> float:
        return self._authority.signer_expires.timestamp()

    async def _issue(self, request: CreateCertificateRequest, metadata: Metadata) -> IssuedCertificate:
        identity = (await self._authenticator.authenticate(metadata)).identity
        key = csr.accept_key(request.csr, identity)
        if request.requested_lifetime_s < 0:
            raise InvalidRequestError(
                f"the requested lifetime of {request.requested_lifetime_s} s is negative"
            )
        issued = self._authority.issue_workload(identity, key, float(request.requested_lifetime_s))
        _LOG.info("issued a certificate for %s, valid until %s", identity, issued.leaf.not_valid_after_utc)
        return issued
