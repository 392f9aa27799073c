"""The signing service of ``protos/ca.proto``: token in, CSR in, certificate out; every refusal in words."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

import grpc

from controlplane.ca import csr, metrics
from controlplane.ca.authority import Authority, IssuedCertificate
from controlplane.ca.tokens import TokenVerifier
from controlplane.errors import (
    AuthorityError,
    AuthorityUnavailableError,
    InvalidRequestError,
    PermissionDeniedError,
    RequestTooLargeError,
    UnauthenticatedError,
)
from protos import ca_pb2_grpc
from protos.ca_pb2 import CreateCertificateRequest, CreateCertificateResponse

_LOG = logging.getLogger(__name__)
_BEARER: Final = "bearer "

_REFUSALS: Final = {
    UnauthenticatedError: (grpc.StatusCode.UNAUTHENTICATED, metrics.AUTHENTICATION_FAILURES),
    PermissionDeniedError: (grpc.StatusCode.PERMISSION_DENIED, metrics.IDENTITY_ERRORS),
    InvalidRequestError: (grpc.StatusCode.INVALID_ARGUMENT, metrics.CSR_ERRORS),
    RequestTooLargeError: (grpc.StatusCode.RESOURCE_EXHAUSTED, metrics.CSR_ERRORS),
    AuthorityUnavailableError: (grpc.StatusCode.UNAVAILABLE, metrics.SIGNING_ERRORS),
}


class CertificateService(ca_pb2_grpc.CertificateServiceServicer):
    """Serve it over TLS only: the token in the request's metadata is worth an identity."""

    def __init__(self, authority: Authority, tokens: TokenVerifier) -> None:
        self._authority: Final = authority
        self._tokens: Final = tokens
        metrics.ROOT_EXPIRY.set(authority.root_expires.timestamp())
        metrics.CHAIN_EXPIRY.set(authority.signer_expires.timestamp())

    def add_to(self, server: grpc.aio.Server) -> None:
        ca_pb2_grpc.add_CertificateServiceServicer_to_server(self, server)

    async def CreateCertificate(
        self, request: CreateCertificateRequest, context: grpc.aio.ServicerContext
    ) -> CreateCertificateResponse:
        metrics.CSRS.inc()
        try:
            issued = self._issue(request, context.invocation_metadata() or ())
        except AuthorityError as error:
            status, counter = _REFUSALS[type(error)]
            counter.inc()
            _LOG.warning("refused a certificate to %s: %s: %s", context.peer(), status.name, error)
            await context.abort(status, str(error))
        metrics.ISSUED.inc()
        return CreateCertificateResponse(
            certificate_chain=issued.chain_pem, trust_bundle=self._authority.trust_bundle_pem
        )

    def _issue(
        self, request: CreateCertificateRequest, metadata: Iterable[tuple[str, str | bytes]]
    ) -> IssuedCertificate:
        identity = self._tokens.verify(_bearer_token(metadata))
        key = csr.accept_key(request.csr, identity)
        if request.requested_lifetime_s < 0:
            raise InvalidRequestError(f"a lifetime of {request.requested_lifetime_s} s was asked for")
        issued = self._authority.issue_workload(identity, key, float(request.requested_lifetime_s))
        _LOG.info("issued a certificate for %s, valid until %s", identity, issued.leaf.not_valid_after_utc)
        return issued


def _bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """RFC 6750 2.1. Two tokens could mean two callers: refused."""
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1:
        raise UnauthenticatedError(f"expected one authorization header, found {len(values)}")
    value = values[0]
    if not isinstance(value, str) or not value[: len(_BEARER)].lower() == _BEARER:
        raise UnauthenticatedError("the authorization header holds no bearer token")
    return value[len(_BEARER) :].strip()
