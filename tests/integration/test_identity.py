"""A sidecar gets its certificate from the control plane's own signing service: over TLS, with a token."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from controlplane.ca.authority import Authority
from controlplane.ca.metrics import AuthorityMetrics
from controlplane.ca.server_certificate import ServerCertificate
from controlplane.ca.service import CertificateService
from controlplane.ca.signer_files import load_or_create_root
from controlplane.ca.tokens import TokenVerifier, create_token, load_or_create_token_key
from protos.spiffe import SpiffeId
from sidecar import signing
from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.endpoint import Endpoint, LoadAssignment, SocketAddress
from sidecar.errors import IdentityError, IdentityRefusedError
from sidecar.identity.contexts import TlsContexts
from sidecar.identity.rotation import SvidRotation
from sidecar.identity.svid import Svid
from sidecar.signing import SigningClient, token_from_file
from tests.support.identities import MESH_SERVER, TestTrustDomain

REVIEWS = SpiffeId("cluster.local", "bookinfo", "reviews")


class ControlPlane:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token_key = load_or_create_token_key(folder)
        authority = Authority(load_or_create_root(folder, "cluster.local", time.time()), max_lifetime_s=3600)
        self._certificate = ServerCertificate(authority, ["127.0.0.1"])
        self.server = grpc.aio.server()
        verifier = TokenVerifier(self.token_key, "cluster.local")
        CertificateService(authority, verifier, AuthorityMetrics(CollectorRegistry())).add_to(self.server)
        self.port = self.server.add_secure_port("127.0.0.1:0", self._certificate.credentials())
        self.roots = folder / "roots.pem"
        self.roots.write_text("".join(authority.trust_bundle_pem))
        self.token_file = folder / "token"
        self.write_token()

    def write_token(self, service_account: str = "reviews", lifetime_s: float = 600.0) -> None:
        token = create_token(
            self.token_key, "bookinfo", service_account, lifetime_s=lifetime_s, now=time.time()
        )
        self.token_file.write_text(token + "\n")

    def client(self, **options: object) -> SigningClient:
        defaults = {
            "address": f"127.0.0.1:{self.port}",
            "root_certificate_file": self.roots,
            "token": lambda: token_from_file(self.token_file),
            "lifetime_s": 60.0,
        }
        return SigningClient(**(defaults | options))

    async def obtain(self, **options: object) -> Svid:
        return await SvidRotation(self.client(**options), REVIEWS, _ignore).obtain_first()


def _ignore(svid: Svid) -> None:
    pass


@pytest.fixture
async def control_plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    running = ControlPlane(tmp_path)
    await running.server.start()
    yield running
    await running.server.stop(None)


async def test_a_workload_gets_the_identity_of_its_token(control_plane: ControlPlane) -> None:
    svid = await control_plane.obtain()
    assert svid.spiffe_id == REVIEWS
    assert svid.expires_s - time.time() == pytest.approx(60, abs=5)
    contexts = TlsContexts()
    contexts.use_svid(svid.pem())
    contexts.server(MESH_SERVER)


async def test_no_file_holds_the_key(control_plane: ControlPlane) -> None:
    before = {path: path.read_bytes() for path in control_plane.folder.iterdir()}
    await control_plane.obtain()
    assert {path: path.read_bytes() for path in control_plane.folder.iterdir()} == before


async def test_the_token_is_read_for_each_certificate(control_plane: ControlPlane) -> None:
    control_plane.write_token(lifetime_s=-60)
    with pytest.raises(IdentityRefusedError, match="UNAUTHENTICATED"):
        await control_plane.obtain()
    control_plane.write_token()
    await control_plane.obtain()


async def test_the_token_of_another_workload_is_refused_with_a_reason(control_plane: ControlPlane) -> None:
    control_plane.write_token("ratings")
    with pytest.raises(IdentityRefusedError, match=f"127.0.0.1:{control_plane.port}: PERMISSION_DENIED"):
        await control_plane.obtain()


async def test_a_control_plane_that_is_not_ours_never_sees_the_token(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    others = tmp_path / "others.pem"
    others.write_text(TestTrustDomain().root_pem)
    with pytest.raises(IdentityError, match="UNAVAILABLE") as caught:
        await control_plane.client(root_certificate_file=others).sign("csr")
    assert not isinstance(caught.value, IdentityRefusedError), "it may be in the middle of a rotation"


async def test_an_unreachable_control_plane_is_an_error_with_a_reason(control_plane: ControlPlane) -> None:
    await control_plane.server.stop(None)
    with pytest.raises(
        IdentityError, match=f"no certificate from the control plane at .*{control_plane.port}"
    ):
        await control_plane.client(timeout_s=0.5).sign("csr")


async def test_a_malformed_answer_is_an_error_with_a_reason(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def malformed(*_: object, **__: object) -> bytes:
        return b"\xff"

    monkeypatch.setattr(signing, "call_unary", malformed)
    with pytest.raises(IdentityError, match=f"malformed answer of .*{control_plane.port}"):
        await control_plane.client().sign("csr")


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read: No such file"), (b" \n", "the token is empty"), (b"\xff", "invalid token")],
)
async def test_an_invalid_token_file_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IdentityError, match=words) as caught:
        token_from_file(path)
    assert str(path) in str(caught.value)


async def test_a_certificate_comes_from_the_replica_that_can_be_reached(control_plane: ControlPlane) -> None:
    down, up = (Endpoint(address=SocketAddress("127.0.0.1", port)) for port in (1, control_plane.port))
    replicas = ClusterConfig(
        name="xds",
        discovery=Discovery.STATIC,
        load_assignment=LoadAssignment(cluster_name="xds", endpoints=(down, up)),
        connect_timeout_s=5.0,
    )
    for _ in range(3):
        svid = await control_plane.obtain(address="127.0.0.1:1", cluster=replicas)
        assert svid.expires_s > time.time()
