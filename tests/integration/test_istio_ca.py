"""A sidecar gets its certificate from the signing service of an istiod, which a server of grpcio plays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import trustme

from protos.istio_ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from protos.spiffe import SpiffeId
from sidecar.config.bootstrap import CaProvider
from sidecar.errors import IdentityError, IdentityRefusedError
from sidecar.identity.contexts import TlsContexts
from sidecar.identity.key import WorkloadKey
from sidecar.identity.rotation import SvidRotation
from sidecar.identity.svid import Svid
from sidecar.signing import SigningClient
from tests.support.identities import MESH_SERVER, TestTrustDomain

REVIEWS = SpiffeId("cluster.local", "bookinfo", "reviews")
TOKEN = "a.token.of.the.audience.istio-ca"


class Istiod:
    def __init__(self, folder: Path) -> None:
        self.domain = TestTrustDomain(REVIEWS)
        self.asked: list[IstioCertificateRequest] = []
        self.metadata: dict[str, object] = {}
        self.with_roots = True
        authority = trustme.CA()
        own = authority.issue_cert("127.0.0.1")
        key, chain = own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
        self.server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            self.sign,
            request_deserializer=IstioCertificateRequest.FromString,
            response_serializer=IstioCertificateResponse.SerializeToString,
        )
        service = "istio.v1.auth.IstioCertificateService"
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {"CreateCertificate": handler}),)
        )
        self.port = self.server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
        self.roots = folder / "root-cert.pem"
        self.roots.write_bytes(authority.cert_pem.bytes())

    async def sign(
        self, request: IstioCertificateRequest, context: grpc.aio.ServicerContext
    ) -> IstioCertificateResponse:
        self.asked.append(request)
        self.metadata = dict(context.invocation_metadata() or ())
        if self.metadata.get("authorization") != f"Bearer {TOKEN}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
        signed = await self.domain.sign(request.csr)
        roots = signed.trust_bundle if self.with_roots else ()
        return IstioCertificateResponse(cert_chain=[*signed.chain, *roots])

    def client(self, token: str = TOKEN) -> SigningClient:
        return SigningClient(
            address=f"127.0.0.1:{self.port}",
            root_certificate_file=self.roots,
            token=lambda: token,
            lifetime_s=60.0,
            provider=CaProvider.ISTIOD,
            cluster_id="Kubernetes",
        )

    async def obtain(self, token: str = TOKEN) -> Svid:
        return await SvidRotation(self.client(token), REVIEWS, lambda svid: None).obtain_first()


@pytest.fixture
async def istiod(tmp_path: Path) -> AsyncIterator[Istiod]:
    running = Istiod(tmp_path)
    await running.server.start()
    yield running
    await running.server.stop(None)


async def test_a_workload_gets_its_identity(istiod: Istiod) -> None:
    svid = await istiod.obtain()
    assert svid.spiffe_id == REVIEWS
    assert svid.trust_bundle.decode() == istiod.domain.root_pem
    (asked,) = istiod.asked
    assert asked.validity_duration == 60
    assert istiod.metadata["clusterid"] == "Kubernetes"
    contexts = TlsContexts()
    contexts.use_svid(svid.pem())
    contexts.server(MESH_SERVER)


async def test_a_token_that_is_refused_is_an_error_with_the_reason(istiod: Istiod) -> None:
    with pytest.raises(IdentityRefusedError, match="UNAUTHENTICATED: request authenticate failure"):
        await istiod.obtain("another")


async def test_a_certificate_without_roots_is_refused(istiod: Istiod) -> None:
    istiod.with_roots = False
    with pytest.raises(IdentityError, match="sent a certificate without its roots"):
        await istiod.client().sign(WorkloadKey().signing_request(REVIEWS))
