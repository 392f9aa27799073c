"""A trust domain for tests: an authority that signs a sidecar's requests."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from protos.node import MESH_ALPN, TRUST_BUNDLE_SECRET, WORKLOAD_CERTIFICATE_SECRET
from protos.spiffe import SpiffeId
from sidecar.config.tls import DownstreamTls, SanMatch, TlsParameters, UpstreamTls, Validation
from sidecar.identity.contexts import TlsContexts
from sidecar.identity.key import WorkloadKey
from sidecar.identity.svid import SignedCertificate, Svid
from sidecar.identity.verification import accept

REVIEWS = SpiffeId("cluster.local", "default", "reviews")
RATINGS = SpiffeId("cluster.local", "default", "ratings")
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


class KeyHere:
    """A `PendingKey` in this process."""

    def __init__(self, spiffe_id: SpiffeId) -> None:
        self._spiffe_id = spiffe_id
        self._key = WorkloadKey()

    async def signing_request(self) -> str:
        return self._key.signing_request(self._spiffe_id)

    async def accept(self, signed: SignedCertificate, now: float) -> Svid:
        return accept(signed, self._key, self._spiffe_id, now)


@asynccontextmanager
async def key_here(spiffe_id: SpiffeId) -> AsyncIterator[KeyHere]:
    yield KeyHere(spiffe_id)


class TestTrustDomain:
    """A self-signed root. As a `rotation.Signer` it signs for ``spiffe_id``."""

    __test__ = False

    def __init__(
        self,
        spiffe_id: SpiffeId = REVIEWS,
        *,
        lifetime_s: float = 3600.0,
        clock: Callable[[], float] = time.time,
        sharing: TestTrustDomain | None = None,
    ) -> None:
        """``sharing``: has the root of that one."""
        self.spiffe_id = spiffe_id
        self.lifetime_s = lifetime_s
        self.clock = clock
        self.signed = 0
        if sharing is not None:
            self.key, self.root = sharing.key, sharing.root
            return
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, spiffe_id.trust_domain)])
        self.root = (
            self._builder(subject, subject, self.key.public_key(), -3600, 10 * 365 * 24 * 3600)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def root_pem(self) -> str:
        return self.root.public_bytes(Encoding.PEM).decode()

    async def sign(self, signing_request: str) -> SignedCertificate:
        return self.sign_for(self.spiffe_id, signing_request)

    def sign_for(self, spiffe_id: SpiffeId, signing_request: str) -> SignedCertificate:
        key = x509.load_pem_x509_csr(signing_request.encode()).public_key()
        return self.sign_names([x509.UniformResourceIdentifier(str(spiffe_id))], key)

    def sign_names(self, names: list[x509.GeneralName], key: object) -> SignedCertificate:
        self.signed += 1
        leaf = (
            self._builder(x509.Name([]), self.root.subject, key, -1, self.lifetime_s)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return SignedCertificate(
            chain=(leaf.public_bytes(Encoding.PEM).decode(),), trust_bundle=(self.root_pem,)
        )

    def svid(self, spiffe_id: SpiffeId | None = None) -> Svid:
        spiffe_id = spiffe_id or self.spiffe_id
        key = WorkloadKey()
        return accept(self.sign_for(spiffe_id, key.signing_request()), key, spiffe_id, self.clock())

    def contexts(self, spiffe_id: SpiffeId | None = None) -> TlsContexts:
        contexts = TlsContexts()
        contexts.use_svid(self.svid(spiffe_id).pem())
        return contexts

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: object, starts_s: float, ends_s: float
    ) -> x509.CertificateBuilder:
        now = self.clock()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.fromtimestamp(int(now + starts_s), UTC))
            .not_valid_after(datetime.fromtimestamp(int(now + ends_s), UTC))
        )


def mesh_parameters(*sans: SanMatch) -> TlsParameters:
    return TlsParameters(
        certificate_secret=WORKLOAD_CERTIFICATE_SECRET,
        validation_secret=TRUST_BUNDLE_SECRET,
        validation=Validation(match_sans=sans) if sans else None,
        alpn_protocols=(MESH_ALPN,),
    )


MESH_SERVER = DownstreamTls(parameters=mesh_parameters(), require_client_certificate=True)
MESH_CLIENT = UpstreamTls(parameters=mesh_parameters(), sni="reviews.default.svc.cluster.local")
