from __future__ import annotations

import base64
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.ca import csr, keys
from controlplane.ca.keys import PrivateKey, make_key
from controlplane.errors import (
    AuthorityError,
    InvalidRequestError,
    PermissionDeniedError,
    RequestTooLargeError,
)
from protos.spiffe import SpiffeId
from tests.support.certificates import csr_pem

REVIEWS = SpiffeId("cluster.local", "bookinfo", "reviews")
GOOD = csr_pem(uris=(str(REVIEWS),))


def to_der(pem: str) -> bytes:
    return base64.b64decode("".join(pem.splitlines()[1:-1]))


def to_pem(der: bytes) -> str:
    marker = "CERTIFICATE REQUEST-----"
    return f"-----BEGIN {marker}\n{base64.b64encode(der).decode()}\n-----END {marker}\n"


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-256", "P-384", "RSA-2048"],
)
def test_a_strong_key_is_accepted(key: PrivateKey) -> None:
    assert csr.accept_key(csr_pem(key), REVIEWS) == key.public_key()


def test_an_ed25519_key_is_accepted() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
    assert csr.accept_key(request.public_bytes(Encoding.PEM).decode(), REVIEWS) == key.public_key()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (rsa.generate_private_key(65537, 1024), "an RSA key of 1024 bits"),
        (ec.generate_private_key(ec.SECP192R1()), "an EC key on secp192r1"),
        (ec.generate_private_key(ec.SECP521R1()), "an EC key on secp521r1"),
    ],
)
def test_a_weak_key_is_refused(key: PrivateKey, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        csr.accept_key(csr_pem(key), REVIEWS)


def test_a_csr_may_name_the_tokens_own_identity() -> None:
    csr.accept_key(csr_pem(uris=(str(REVIEWS),)), REVIEWS)


@pytest.mark.parametrize(
    ("uris", "dns"),
    [
        (("spiffe://cluster.local/ns/bookinfo/sa/ratings",), ()),
        (("spiffe://other.domain/ns/bookinfo/sa/reviews",), ()),
        ((str(REVIEWS), "spiffe://cluster.local/ns/bookinfo/sa/admin"), ()),
        ((str(REVIEWS),), ("istiod.istio-system.svc",)),
        ((), ("localhost",)),
    ],
)
def test_a_csr_for_another_identity_is_rejected(uris: tuple[str, ...], dns: tuple[str, ...]) -> None:
    with pytest.raises(
        PermissionDeniedError, match=r"the CSR requests .*, but the token belongs to spiffe://"
    ):
        csr.accept_key(csr_pem(uris=uris, dns=dns), REVIEWS)


def csr_with(extension: x509.ExtensionType) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(extension, critical=True).sign(make_key(), hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    "name",
    [
        x509.IPAddress(ip_address("10.0.0.1")),
        x509.RFC822Name("admin@example.com"),
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(REVIEWS))])),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x05admin"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.DNSName(str(REVIEWS)),
        x509.UniformResourceIdentifier(f"{REVIEWS}/"),
        x509.UniformResourceIdentifier(str(REVIEWS).upper()),
        x509.UniformResourceIdentifier(f"{REVIEWS}%00"),
    ],
)
def test_a_name_of_any_other_kind_is_refused(name: x509.GeneralName) -> None:
    with pytest.raises(PermissionDeniedError, match="the CSR requests"):
        csr.accept_key(csr_with(x509.SubjectAlternativeName([name])), REVIEWS)


def test_a_csr_for_certificate_signing_is_rejected() -> None:
    usages = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "crl_sign", "encipher_only", "decipher_only"), False)  # fmt: skip
    with pytest.raises(InvalidRequestError, match="requests a certificate authority"):
        csr.accept_key(csr_with(x509.KeyUsage(key_cert_sign=True, **usages)), REVIEWS)


def test_a_huge_key_is_refused_before_it_is_worked_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_MAX_RSA_BITS", 2048)  # generating a really large key takes long
    monkeypatch.setattr(csr, "_refuse_key_not_held", None)
    with pytest.raises(InvalidRequestError, match="an RSA key of 3072 bits"):
        csr.accept_key(csr_pem(rsa.generate_private_key(65537, 3072)), REVIEWS)


def test_a_csr_for_an_authority_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="requests a certificate authority"):
        csr.accept_key(csr_pem(ca=True), REVIEWS)


def test_a_key_that_the_caller_does_not_hold_is_refused() -> None:
    forged = bytearray(to_der(GOOD))
    forged[-1] ^= 1  # the last byte of the signature
    with pytest.raises(InvalidRequestError, match="signature does not verify"):
        csr.accept_key(to_pem(forged), REVIEWS)


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CERTIFICATE REQUEST-----\n", "\ud800", GOOD[:-60]])
def test_an_invalid_csr_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be parsed"):
        csr.accept_key(text, REVIEWS)


def test_a_huge_csr_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(RequestTooLargeError, match="more than 16384"):
        csr.accept_key("A" * 16385, REVIEWS)


@settings(max_examples=300)
@given(position=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_damaged_csr_never_passes_and_never_crashes(position: int, byte: int) -> None:
    body = bytearray(to_der(GOOD))
    position %= len(body)
    if body[position] == byte:
        return
    body[position] = byte
    with pytest.raises(AuthorityError):
        csr.accept_key(to_pem(body), REVIEWS)


def test_two_requests_with_one_key_give_one_key() -> None:
    key = make_key()
    assert csr.accept_key(csr_pem(key), REVIEWS) == csr.accept_key(
        csr_pem(key, uris=(str(REVIEWS),)), REVIEWS
    )
