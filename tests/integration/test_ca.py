"""The signing service from a workload's point of view: gRPC over TLS, the server's own certificate,
errors."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey
from prometheus_client import CollectorRegistry

from controlplane.ca.authority import Authority
from controlplane.ca.keys import make_key
from controlplane.ca.metrics import AuthorityMetrics
from controlplane.ca.server_certificate import ServerCertificate
from controlplane.ca.service import CertificateService
from controlplane.ca.signer_files import load_or_create_root
from controlplane.ca.tokens import TokenVerifier, create_token, load_or_create_token_key
from protos.ca_pb2 import CreateCertificateRequest, CreateCertificateResponse
from protos.ca_pb2_grpc import CertificateServiceStub
from tests.support.certificates import csr_pem
from tests.support.metrics import MOVED_IN, moved

REVIEWS = "spiffe://cluster.local/ns/bookinfo/sa/reviews"


class Clock:
    """The real time plus an offset that the test sets."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class ControlPlane:
    """The authority on a separate port, and a client for it."""

    def __init__(self, state_dir: Path) -> None:
        self.clock = Clock()
        self.token_key: ECKey = load_or_create_token_key(state_dir)
        signer = load_or_create_root(state_dir, "cluster.local", time.time())
        self.authority = Authority(signer, max_lifetime_s=48 * 3600, clock=self.clock)
        self.certificate = ServerCertificate(self.authority, ["localhost", "127.0.0.1"], clock=self.clock)
        self.server = grpc.aio.server()
        tokens = TokenVerifier(self.token_key, "cluster.local", clock=self.clock)
        self.registry = CollectorRegistry()
        CertificateService(self.authority, tokens, AuthorityMetrics(self.registry)).add_to(self.server)
        self.port = self.server.add_secure_port("127.0.0.1:0", self.certificate.credentials())
        self.roots = "".join(self.authority.trust_bundle_pem).encode()

    def token(self, lifetime_s: float = 3600) -> str:
        return create_token(self.token_key, "bookinfo", "reviews", lifetime_s=lifetime_s, now=self.clock())

    def metric(self, name: str) -> float:
        return self.registry.get_sample_value(name) or 0.0

    async def request(
        self, csr: str, *headers: str, lifetime_s: int = 0, host: str = "127.0.0.1"
    ) -> CreateCertificateResponse:
        credentials = grpc.ssl_channel_credentials(self.roots)
        async with grpc.aio.secure_channel(f"{host}:{self.port}", credentials) as channel:
            return await CertificateServiceStub(channel).CreateCertificate(
                CreateCertificateRequest(csr=csr, requested_lifetime_s=lifetime_s),
                metadata=tuple(("authorization", header) for header in headers),
                timeout=10,
            )


@pytest.fixture
async def control_plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    control_plane = ControlPlane(tmp_path)
    await control_plane.server.start()
    yield control_plane
    await control_plane.server.stop(None)


async def test_a_token_and_a_csr_get_a_certificate_with_the_tokens_identity(
    control_plane: ControlPlane,
) -> None:
    key = make_key()
    answer = await control_plane.request(csr_pem(key), f"Bearer {control_plane.token()}", lifetime_s=60)

    [leaf] = [x509.load_pem_x509_certificate(pem.encode()) for pem in answer.certificate_chain]
    [root] = [x509.load_pem_x509_certificate(pem.encode()) for pem in answer.trust_bundle]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [REVIEWS]
    assert leaf.public_key() == key.public_key()
    assert 50 < leaf.not_valid_after_utc.timestamp() - time.time() <= 60
    leaf.verify_directly_issued_by(root)
    assert control_plane.metric("citadel_server_csr_count_total") == 1
    assert control_plane.metric("citadel_server_success_cert_issuance_count_total") == 1
    assert (
        control_plane.metric("citadel_server_root_cert_expiry_timestamp")
        == root.not_valid_after_utc.timestamp()
    )


async def test_another_signer_is_used_for_workloads_and_for_the_server_itself(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    before = control_plane.roots
    signer = load_or_create_root(tmp_path / "next", "cluster.local", time.time())
    control_plane.authority.use(signer)
    with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
        await control_plane.request(csr_pem(), f"Bearer {control_plane.token()}")
    control_plane.roots = "".join(control_plane.authority.trust_bundle_pem).encode()
    assert control_plane.roots != before
    answer = await control_plane.request(csr_pem(), f"Bearer {control_plane.token()}")
    leaf = x509.load_pem_x509_certificate(answer.certificate_chain[0].encode())
    leaf.verify_directly_issued_by(signer.certificate)
    assert answer.trust_bundle == [control_plane.roots.decode()]
    expires_s = signer.expires.timestamp()
    assert control_plane.metric("citadel_server_root_cert_expiry_timestamp") == expires_s
    assert control_plane.metric("citadel_server_cert_chain_expiry_timestamp") == expires_s


async def test_a_lifetime_is_capped(control_plane: ControlPlane) -> None:
    answer = await control_plane.request(csr_pem(), f"Bearer {control_plane.token()}", lifetime_s=10**12)
    leaf = x509.load_pem_x509_certificate(answer.certificate_chain[0].encode())
    assert leaf.not_valid_after_utc.timestamp() <= time.time() + 48 * 3600


async def test_the_certificate_contains_every_name_of_the_control_plane(control_plane: ControlPlane) -> None:
    await control_plane.request(csr_pem(), f"bearer {control_plane.token()}", host="localhost")


GOOD = csr_pem()


@pytest.mark.parametrize(
    ("csr", "status", "words", "counter"),
    [
        ("hello", "INVALID_ARGUMENT", "the CSR cannot be parsed", "citadel_server_csr_parsing_err_count"),
        (
            csr_pem(rsa.generate_private_key(65537, 1024)),
            "INVALID_ARGUMENT",
            "an RSA key of 1024 bits",
            "citadel_server_csr_parsing_err_count",
        ),
        (
            csr_pem(uris=("spiffe://cluster.local/ns/istio-system/sa/admin",)),
            "PERMISSION_DENIED",
            "the CSR requests 'spiffe://cluster.local/ns/istio-system/sa/admin', but the token belongs to "
            + REVIEWS,
            "citadel_server_id_extraction_err_count",
        ),
        (
            GOOD + "\n" * 16384,
            "RESOURCE_EXHAUSTED",
            "more than 16384",
            "citadel_server_csr_parsing_err_count",
        ),
    ],
)
async def test_a_bad_csr_is_rejected_with_a_status_a_reason_a_log_line_and_a_count(
    control_plane: ControlPlane,
    caplog: pytest.LogCaptureFixture,
    csr: str,
    status: str,
    words: str,
    counter: str,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await control_plane.request(csr, f"Bearer {control_plane.token()}")
    assert refusal.value.code().name == status
    assert words in refusal.value.details()
    assert control_plane.metric(f"{counter}_total") == 1
    [line] = [record.getMessage() for record in caplog.records if record.name == "controlplane.ca.service"]
    assert status in line
    assert words in line


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ((), "expected one authorization header with a token, found 0"),
        (("Bearer a.b.c",), "the token is invalid"),
        (("Bearer ",), "the bearer token is empty"),
        (("Basic dXNlcjpwYXNz",), "does not contain a bearer token"),
        (("Bearer a", "Bearer b"), "expected one authorization header with a token, found 2"),
    ],
)
async def test_a_call_without_a_valid_token_is_rejected(
    control_plane: ControlPlane, headers: tuple[str, ...], words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await control_plane.request(GOOD, *headers)
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert words in refusal.value.details()
    assert control_plane.metric("citadel_server_authentication_failure_count_total") == 1


async def test_every_outcome_is_counted(control_plane: ControlPlane) -> None:
    bearer = f"Bearer {control_plane.token()}"
    await control_plane.request(GOOD, bearer)
    admin = csr_pem(uris=("spiffe://cluster.local/ns/istio-system/sa/admin",))
    for csr, *headers in ((GOOD,), ("hello", bearer), (admin, bearer)):
        with pytest.raises(grpc.aio.AioRpcError):
            await control_plane.request(csr, *headers)
    control_plane.clock.ahead_s = 100 * 365 * 24 * 3600  # the signer has expired
    with pytest.raises(grpc.aio.AioRpcError, match="the signing certificate expired"):
        await control_plane.request(GOOD, f"Bearer {control_plane.token()}")
    assert moved(control_plane.registry) == MOVED_IN["integration/test_ca.py"]


async def test_an_expired_and_a_foreign_token_are_rejected(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    expired = control_plane.token(lifetime_s=-60)
    foreign_key = load_or_create_token_key(tmp_path / "elsewhere")
    foreign = create_token(foreign_key, "bookinfo", "reviews", lifetime_s=60, now=time.time())
    for token, words in ((expired, "the token has expired"), (foreign, "the token is invalid")):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await control_plane.request(GOOD, f"Bearer {token}")
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert words in refusal.value.details()


async def test_a_token_is_never_logged(control_plane: ControlPlane, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = control_plane.token()
    await control_plane.request(GOOD, f"Bearer {token}")
    with pytest.raises(grpc.aio.AioRpcError):
        await control_plane.request(GOOD, f"Bearer {token[:-4]}AAAA")
    assert token[:-4] not in caplog.text


async def test_an_expired_authority_reports_that_it_cannot_sign(control_plane: ControlPlane) -> None:
    control_plane.clock.ahead_s = 11 * 365 * 24 * 3600.0
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await control_plane.request(GOOD, f"Bearer {control_plane.token()}")
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "the signing certificate expired" in refusal.value.details()


def served_serial(port: int) -> int:
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


async def test_the_control_planes_own_certificate_renews_itself_at_half_life(
    control_plane: ControlPlane,
) -> None:
    import asyncio

    first = await asyncio.to_thread(served_serial, control_plane.port)
    assert await asyncio.to_thread(served_serial, control_plane.port) == first
    control_plane.clock.ahead_s = 12 * 3600 + 60
    second = await asyncio.to_thread(served_serial, control_plane.port)
    assert second != first
    assert await asyncio.to_thread(served_serial, control_plane.port) == second
