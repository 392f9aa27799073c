"""The client of the certificate authority: ``CertificateService`` of ``protos/ca.proto``, or the
``IstioCertificateService`` of an istiod (``protos/istio_ca.proto``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sidecar.authority import split_authority
from sidecar.config.bootstrap import CaProvider
from sidecar.config.cluster import ClusterConfig
from sidecar.config.endpoint import Endpoint, SocketAddress
from sidecar.errors import IdentityError, IdentityRefusedError
from sidecar.grpc.call import call_unary
from sidecar.grpc.call_stats import ClusterCalls
from sidecar.grpc.errors import GrpcError
from sidecar.grpc.target import Target
from sidecar.grpc.tls import verifying_context
from sidecar.grpc_status import GrpcStatus
from sidecar.identity.ca_provider import provider_for
from sidecar.identity.svid import SignedCertificate
from sidecar.identity.watched_file import read_file

_DEFAULT_PORT: Final = 443
_METHODS: Final = {
    CaProvider.OUTRIGGER: "/outrigger.ca.v1.CertificateService/CreateCertificate",
    CaProvider.ISTIOD: "/istio.v1.auth.IstioCertificateService/CreateCertificate",
}
# A retry with the same token would get the same answer.
_FINAL: Final = frozenset(
    {
        GrpcStatus.UNAUTHENTICATED,
        GrpcStatus.PERMISSION_DENIED,
        GrpcStatus.INVALID_ARGUMENT,
        GrpcStatus.UNIMPLEMENTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningClient:
    """``address`` is ``host:port``. With a ``cluster``, calls go to any of its endpoints, connect as it says,
    and count in its statistics, ``calls``; its TLS is not used. TLS is always used, since the token proves an
    identity. The root file and the token are read for each call, so that they can be replaced while the
    sidecar runs. ``server_name`` is the expected name in the server's certificate, by default the host of the
    endpoint. ``lifetime_s`` 0 lets the authority decide. Without a ``provider``, the audience of the token
    decides. ``cluster_id`` tells an istiod the cluster whose tokens it must review."""

    address: str
    root_certificate_file: Path
    token: Callable[[], str]
    lifetime_s: float = 0.0
    server_name: str = ""
    timeout_s: float = 10.0
    provider: CaProvider | None = None
    cluster_id: str = ""
    cluster: ClusterConfig | None = None
    calls: ClusterCalls = field(default_factory=ClusterCalls)

    async def sign(self, signing_request: str) -> SignedCertificate:
        """Raises `IdentityRefusedError` when the control plane refuses, `IdentityError` when it cannot be
        reached, its answer is malformed or a file cannot be read. Each call opens a connection, since
        renewals are rare."""
        # protobuf takes 8 MB, and the agent beside an Envoy needs it for nothing else.
        from google.protobuf.message import DecodeError  # noqa: PLC0415

        target = self._target()
        token = self.token()
        provider = self.provider or provider_for(token)
        metadata = [("authorization", f"Bearer {token}")]
        if provider is CaProvider.ISTIOD and self.cluster_id:
            metadata.append(("clusterid", self.cluster_id))
        try:
            answer = await call_unary(
                target,
                _METHODS[provider],
                self._request(provider, signing_request),
                metadata,
                timeout_s=self.timeout_s,
            )
            return self._signed(provider, answer)
        except GrpcError as error:
            kind = IdentityRefusedError if error.status in _FINAL else IdentityError
            raise kind(f"no certificate from the control plane at {self.address}: {error}") from error
        except DecodeError as error:
            raise IdentityError(f"malformed answer of the control plane at {self.address}") from error

    def _target(self) -> Target:
        roots = self.root_certificate_file
        tls = verifying_context(read_file(roots), str(roots))
        cluster = self.cluster
        if cluster is None or cluster.load_assignment is None:
            endpoint = Endpoint(address=ca_socket_address(self.address))
            return Target(endpoints=(endpoint,), tls=tls, server_name=self.server_name)
        return Target(
            endpoints=cluster.load_assignment.endpoints,
            tls=tls,
            server_name=self.server_name,
            connect_timeout_s=cluster.connect_timeout_s,
            tcp_keepalive=cluster.tcp_keepalive,
            calls=self.calls,
        )

    def _request(self, provider: CaProvider, signing_request: str) -> bytes:
        lifetime_s = round(self.lifetime_s)
        if provider is CaProvider.ISTIOD:
            from protos.istio_ca_pb2 import IstioCertificateRequest  # noqa: PLC0415

            asked = IstioCertificateRequest(csr=signing_request, validity_duration=lifetime_s)
            return bytes(asked.SerializeToString())
        from protos.ca_pb2 import CreateCertificateRequest  # noqa: PLC0415

        return CreateCertificateRequest(
            csr=signing_request, requested_lifetime_s=lifetime_s
        ).SerializeToString()

    def _signed(self, provider: CaProvider, answer: bytes) -> SignedCertificate:
        """Raises ``DecodeError``, and `IdentityError` for an answer without roots."""
        if provider is CaProvider.ISTIOD:
            from protos.istio_ca_pb2 import IstioCertificateResponse  # noqa: PLC0415

            *chain, roots = IstioCertificateResponse.FromString(answer).cert_chain or [""]
            if not chain:
                raise IdentityError(f"the istiod at {self.address} sent a certificate without its roots")
            return SignedCertificate(chain=tuple(chain), trust_bundle=(roots,))
        from protos.ca_pb2 import CreateCertificateResponse  # noqa: PLC0415

        response = CreateCertificateResponse.FromString(answer)
        return SignedCertificate(
            chain=tuple(response.certificate_chain), trust_bundle=tuple(response.trust_bundle)
        )


def ca_socket_address(address: str) -> SocketAddress:
    """Raises `IdentityRefusedError` for an invalid address: a retry would not help."""
    try:
        host, port = split_authority(address.encode())
    except ValueError as error:
        raise IdentityRefusedError(f"the address of the CA, {address!r}, is invalid: {error}") from None
    return SocketAddress(host, port or _DEFAULT_PORT)


def token_from_file(path: Path) -> str:
    """A bearer token, without the white space around it. Raises `IdentityError`."""
    try:
        token = read_file(path).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise IdentityError(f"{path}: invalid token: {error}") from error
    if not token:
        raise IdentityError(f"{path}: the token is empty")
    return token
