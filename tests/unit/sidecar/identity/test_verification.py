from __future__ import annotations

import dataclasses
import pickle
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from protos.spiffe import SpiffeId
from sidecar.errors import IdentityError
from sidecar.identity.key import WorkloadKey
from sidecar.identity.svid import SignedCertificate
from sidecar.identity.verification import accept
from tests.support.identities import RATINGS, REVIEWS, TestTrustDomain

DOMAIN = TestTrustDomain()


def signed_for(key: WorkloadKey, spiffe_id: SpiffeId = REVIEWS) -> SignedCertificate:
    return DOMAIN.sign_for(spiffe_id, key.signing_request())


def test_a_valid_svid_is_accepted() -> None:
    key = WorkloadKey()
    now = time.time()
    svid = accept(signed_for(key), key, REVIEWS, now)
    assert svid.spiffe_id == REVIEWS
    assert svid.begins_s == now
    assert svid.expires_s == pytest.approx(now + 3600, abs=2)
    assert svid.pem().trust_bundle.decode() == DOMAIN.root_pem


def test_a_certificate_for_another_key_is_refused() -> None:
    with pytest.raises(IdentityError, match="different key"):
        accept(signed_for(WorkloadKey()), WorkloadKey(), REVIEWS, time.time())


def test_a_certificate_for_another_identity_is_refused() -> None:
    key = WorkloadKey()
    with pytest.raises(IdentityError, match=r"sa/ratings, expected .*sa/reviews"):
        accept(signed_for(key, RATINGS), key, REVIEWS, time.time())


def test_a_chain_that_ends_outside_the_bundle_is_refused() -> None:
    key = WorkloadKey()
    foreign = dataclasses.replace(signed_for(key), trust_bundle=(TestTrustDomain().root_pem,))
    with pytest.raises(IdentityError, match="does not chain to the trust bundle"):
        accept(foreign, key, REVIEWS, time.time())


def test_the_authoritys_clock_may_be_ahead() -> None:
    key, now = WorkloadKey(), float(int(time.time()))
    svid = accept(signed_for(key), key, REVIEWS, now - 60)
    assert svid.begins_s == pytest.approx(now - 1, abs=2), "peers would refuse it before"


@pytest.mark.parametrize("offset_s", [-130, 4000])
def test_a_certificate_that_is_not_valid_now_is_refused(offset_s: float) -> None:
    key = WorkloadKey()
    with pytest.raises(IdentityError, match="not now"):
        accept(signed_for(key), key, REVIEWS, time.time() + offset_s)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chain": ()}, "certificate chain is empty"),
        ({"trust_bundle": ()}, "trust bundle is empty"),
        ({"chain": ("not pem",)}, "invalid certificate chain"),
        (
            {"chain": ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",)},
            "invalid certificate chain",
        ),
    ],
)
def test_an_answer_that_is_not_a_certificate_is_refused(
    change: dict[str, tuple[str, ...]], words: str
) -> None:
    key = WorkloadKey()
    with pytest.raises(IdentityError, match=words):
        accept(dataclasses.replace(signed_for(key), **change), key, REVIEWS, time.time())


@pytest.mark.parametrize(
    "names",
    [
        [x509.DNSName("reviews")],
        [x509.UniformResourceIdentifier(str(REVIEWS)), x509.UniformResourceIdentifier(str(RATINGS))],
        [x509.UniformResourceIdentifier("spiffe://cluster.local/else")],
    ],
)
def test_a_leaf_without_exactly_one_workload_id_is_refused(names: list[x509.GeneralName]) -> None:
    key = WorkloadKey()
    public = x509.load_pem_x509_csr(key.signing_request().encode()).public_key()
    with pytest.raises(IdentityError):
        accept(DOMAIN.sign_names(names, public), key, REVIEWS, time.time())


def test_the_request_proves_the_key_and_names_the_identity() -> None:
    key = WorkloadKey()
    request = x509.load_pem_x509_csr(key.signing_request(REVIEWS).encode())
    assert request.is_signature_valid
    public = request.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(REVIEWS)]


def test_the_key_is_never_shown() -> None:
    svid = DOMAIN.svid()
    assert "PRIVATE" not in repr(svid)
    assert "key" not in repr(svid)
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(WorkloadKey())
