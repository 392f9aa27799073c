"""The client of the certificate authority: ``CertificateService`` of ``protos/ca.proto``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from protos import ca_pb2_grpc
from protos.ca_pb2 import CreateCertificateRequest
from sidecar.errors import IdentityError, IdentityRefusedError
from sidecar.identity.svid import SignedCertificate

# A retry with the same token would get the same answer.
_FINAL: Final = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningClient:
    """``address`` is ``host:port``. TLS is always used, since the token proves an identity. The root file and
    the token are read for each call, so that they can be replaced while the sidecar runs. ``server_name`` is
    the expected name in the server's certificate, by default the host of the address. ``lifetime_s`` 0 lets
    the authority decide."""

    address: str
    root_certificate_file: Path
    token: Callable[[], str]
    lifetime_s: float = 0.0
    server_name: str = ""
    timeout_s: float = 10.0

    async def sign(self, signing_request: str) -> SignedCertificate:
        """Raises `IdentityRefusedError` when the control plane refuses, `IdentityError` when it cannot be
        reached or a file cannot be read. Each call opens a channel, since renewals are rare."""
        credentials = grpc.ssl_channel_credentials(read_file(self.root_certificate_file))
        options = [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []
        request = CreateCertificateRequest(csr=signing_request, requested_lifetime_s=round(self.lifetime_s))
        metadata = (("authorization", f"Bearer {self.token()}"),)
        async with grpc.aio.secure_channel(self.address, credentials, options) as channel:
            service = ca_pb2_grpc.CertificateServiceStub(channel)
            try:
                response = await service.CreateCertificate(request, metadata=metadata, timeout=self.timeout_s)
            except grpc.aio.AioRpcError as error:
                kind = IdentityRefusedError if error.code() in _FINAL else IdentityError
                raise kind(
                    f"no certificate from the control plane at {self.address}: "
                    f"{error.code().name}: {error.details()}"
                ) from error
        return SignedCertificate(
            chain=tuple(response.certificate_chain), trust_bundle=tuple(response.trust_bundle)
        )


def token_from_file(path: Path) -> str:
    """A bearer token, without the white space around it. Raises `IdentityError`."""
    try:
        token = read_file(path).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise IdentityError(f"{path}: invalid token: {error}") from error
    if not token:
        raise IdentityError(f"{path}: the token is empty")
    return token


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror or error}") from error
