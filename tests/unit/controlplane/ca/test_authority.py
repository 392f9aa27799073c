from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from controlplane.ca import templates
from controlplane.ca.authority import Authority
from controlplane.ca.keys import PrivateKey, PublicKey, make_key
from controlplane.ca.signer import Signer
from controlplane.ca.signer_files import SignerFiles, load_or_create_root, load_signer
from controlplane.errors import AuthorityUnavailableError
from protos.spiffe import SpiffeId
from tests.support.certificates import TestAuthority

NOW = 1_800_000_000.0
DAY = 24 * 3600.0
REVIEWS = SpiffeId("cluster.local", "bookinfo", "reviews")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return load_or_create_root(tmp_path, "cluster.local", NOW)


def lifetime_s(authority: Authority, requested_s: float) -> float:
    leaf = authority.issue_workload(REVIEWS, make_key().public_key(), requested_s).leaf
    return leaf.not_valid_after_utc.timestamp() - NOW


def test_a_lifetime_is_the_default_or_the_requested_one_up_to_the_maximum(signer: Signer) -> None:
    authority = Authority(signer, default_lifetime_s=DAY, max_lifetime_s=2 * DAY, clock=Clock())
    assert lifetime_s(authority, 0) == DAY
    assert lifetime_s(authority, 5) == 5
    assert lifetime_s(authority, 10 * DAY) == 2 * DAY
    assert lifetime_s(authority, 9e18) == 2 * DAY


def test_no_certificate_outlives_its_signer(signer: Signer) -> None:
    clock = Clock()
    authority = Authority(signer, clock=clock)
    clock.now = signer.expires.timestamp() - 60
    leaf = authority.issue_workload(REVIEWS, make_key().public_key()).leaf
    assert leaf.not_valid_after_utc == signer.expires


def test_an_expired_signer_signs_nothing(signer: Signer) -> None:
    clock = Clock()
    authority = Authority(signer, clock=clock)
    clock.now = signer.expires.timestamp()
    with pytest.raises(AuthorityUnavailableError, match="the signing certificate expired at"):
        authority.issue_workload(REVIEWS, make_key().public_key())


def test_a_root_signs_a_chain_of_one(signer: Signer) -> None:
    authority = Authority(signer, clock=Clock())
    issued = authority.issue_workload(REVIEWS, make_key().public_key())
    assert issued.chain == (issued.leaf,)
    assert [x509.load_pem_x509_certificate(pem.encode()) for pem in authority.trust_bundle_pem] == [
        signer.certificate
    ]


@pytest.mark.parametrize(
    "signing_key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048), None],
    ids=["P-384", "RSA", "P-256"],
)
def test_a_chain_by_an_intermediate_verifies_up_to_the_root(
    tmp_path: Path, signing_key: PrivateKey | None
) -> None:
    lifetime = {"not_before": NOW - 3600, "not_after": NOW + 30 * DAY}
    root = TestAuthority("root", **lifetime)
    lower = TestAuthority("lower", issuer=root, key=signing_key, **lifetime)
    certificate, key = lower.write(tmp_path, "ca")
    roots, _ = root.write(tmp_path, "root")
    signer = load_signer(SignerFiles(certificate=certificate, key=key, roots=roots), NOW)

    issued = Authority(signer, clock=Clock()).issue_workload(REVIEWS, make_key().public_key())

    assert issued.chain[1:] == (lower.certificate,)
    issued.leaf.verify_directly_issued_by(issued.chain[1])
    issued.chain[1].verify_directly_issued_by(root.certificate)


def test_an_independent_verifier_accepts_the_certificate(signer: Signer) -> None:
    issued = Authority(signer, clock=Clock()).issue_server(["localhost"], make_key().public_key())
    verifier = (
        x509.verification.PolicyBuilder()
        .store(x509.verification.Store([signer.certificate]))
        .time(datetime.fromtimestamp(NOW, UTC))
        .build_server_verifier(x509.DNSName("localhost"))
    )
    assert verifier.verify(issued.leaf, [])[-1] == signer.certificate


@pytest.mark.parametrize(
    "key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())]
)
def test_the_certificate_contains_the_callers_key(signer: Signer, key: PrivateKey) -> None:
    leaf = Authority(signer, clock=Clock()).issue_workload(REVIEWS, key.public_key()).leaf
    assert leaf.public_key() == key.public_key()


@pytest.mark.parametrize("wrong", ["key", "name"])
def test_a_certificate_that_differs_from_the_request_is_not_returned(
    signer: Signer, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    original = templates.workload_certificate

    def mistaken(
        identity: SpiffeId, key: PublicKey, issuer: x509.Certificate, valid: templates.Validity
    ) -> x509.CertificateBuilder:
        if wrong == "key":
            return original(identity, make_key().public_key(), issuer, valid)
        return original(SpiffeId("cluster.local", "bookinfo", "admin"), key, issuer, valid)

    monkeypatch.setattr(templates, "workload_certificate", mistaken)
    with pytest.raises(AuthorityUnavailableError, match="differs from the requested one"):
        Authority(signer, clock=Clock()).issue_workload(REVIEWS, make_key().public_key())


def test_the_control_planes_own_lifetime_is_not_the_workloads(signer: Signer) -> None:
    authority = Authority(signer, default_lifetime_s=5, max_lifetime_s=5, clock=Clock())
    leaf = authority.issue_server(["localhost", "::1"], make_key().public_key()).leaf
    assert leaf.not_valid_after_utc.timestamp() - NOW == DAY


def test_a_signer_with_another_certificates_key_issues_nothing(signer: Signer) -> None:
    broken = Signer(certificate=signer.certificate, key=make_key(), intermediates=(), roots=signer.roots)
    with pytest.raises(AuthorityUnavailableError, match="does not verify"):
        Authority(broken, clock=Clock()).issue_workload(REVIEWS, make_key().public_key())
