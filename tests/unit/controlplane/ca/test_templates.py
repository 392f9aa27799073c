from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from controlplane.ca import templates
from controlplane.ca.keys import make_key
from protos.spiffe import SpiffeId

NOW = 1_800_000_000.25
START = datetime.fromtimestamp(1_800_000_000, UTC)
REVIEWS = SpiffeId("cluster.local", "bookinfo", "reviews")


@pytest.fixture(scope="module")
def root() -> tuple[x509.Certificate, object]:
    key = make_key()
    template = templates.root_certificate("cluster.local", key.public_key(), templates.validity(NOW, 3600))
    return template.sign(key, hashes.SHA256()), key


def signed(template: x509.CertificateBuilder) -> x509.Certificate:
    return template.sign(make_key(), hashes.SHA256())


def test_validity_is_backdated_for_clocks_that_are_behind() -> None:
    valid = templates.validity(NOW, 24 * 3600)
    assert valid.not_before == START - timedelta(seconds=120)
    assert valid.not_after == START + timedelta(hours=24)


def test_a_short_lifetime_is_backdated_by_a_tenth_at_most() -> None:
    valid = templates.validity(NOW, 5)
    assert START - valid.not_before <= timedelta(seconds=1)
    assert valid.not_after == START + timedelta(seconds=5)


def test_validity_ends_with_the_signer() -> None:
    signer_expires = START + timedelta(minutes=10)
    assert templates.validity(NOW, 24 * 3600, signer_expires).not_after == signer_expires
    assert templates.validity(NOW, 60, signer_expires).not_after == START + timedelta(seconds=60)


def test_a_workload_certificate_is_an_x509_svid(root: tuple[x509.Certificate, object]) -> None:
    key = make_key().public_key()
    leaf = signed(templates.workload_certificate(REVIEWS, key, root[0], templates.validity(NOW, 60)))

    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.critical, "RFC 5280: a SAN is critical when the subject is empty"
    assert list(names.value) == [
        x509.UniformResourceIdentifier("spiffe://cluster.local/ns/bookinfo/sa/reviews")
    ]
    assert leaf.subject == x509.Name([])
    assert leaf.issuer == root[0].subject
    assert leaf.public_key() == key
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert not usage.value.crl_sign
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    }


def test_a_leaf_points_at_its_issuers_key(root: tuple[x509.Certificate, object]) -> None:
    leaf = signed(
        templates.workload_certificate(REVIEWS, make_key().public_key(), root[0], templates.validity(NOW, 60))
    )
    issuer_id = root[0].extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    authority_id = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert authority_id == issuer_id


def test_a_server_certificate_names_hosts_and_addresses_and_no_workload(
    root: tuple[x509.Certificate, object],
) -> None:
    hosts = ["localhost", "127.0.0.1", "::1"]
    leaf = signed(
        templates.server_certificate(hosts, make_key().public_key(), root[0], templates.validity(NOW, 60))
    )
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == []
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]


def test_a_root_may_sign_certificates_and_nothing_else(root: tuple[x509.Certificate, object]) -> None:
    extensions = root[0].extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://cluster.local")]


def test_a_long_trust_domain_still_has_a_root() -> None:
    key = make_key()
    domain = "a" * 100 + ".example"  # RFC 5280: an organization name has at most 64 characters
    root = templates.root_certificate(domain, key.public_key(), templates.validity(NOW, 60)).sign(
        key, hashes.SHA256()
    )
    names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://{domain}"]
