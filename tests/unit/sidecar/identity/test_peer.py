from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sidecar.config.tls import SanMatch, SanMatchKind
from sidecar.errors import IdentityError
from sidecar.identity.peer import Peer, PeerVerifier, check_server_name, distinguished_name

WORKLOAD = ("URI", "spiffe://cluster.local/ns/default/sa/reviews")


def san(kind: SanMatchKind, value: str, san_type: str = "ANY") -> SanMatch:
    return SanMatch(kind=kind, value=value, san_type=san_type)


@pytest.mark.parametrize(
    ("match", "name"),
    [
        (san(SanMatchKind.EXACT, WORKLOAD[1], "URI"), WORKLOAD),
        (san(SanMatchKind.PREFIX, "spiffe://cluster.local/"), WORKLOAD),
        (san(SanMatchKind.SUFFIX, "/sa/reviews"), WORKLOAD),
        (san(SanMatchKind.CONTAINS, "/ns/default/"), WORKLOAD),
        (san(SanMatchKind.REGEX, "spiffe://.*/sa/(reviews|ratings)"), WORKLOAD),
        (san(SanMatchKind.REGEX, "josé@.*", "EMAIL"), ("EMAIL", "josé@\udce9")),
        (san(SanMatchKind.EXACT, "API.example.com", "DNS"), ("DNS", "api.Example.com")),
        (san(SanMatchKind.EXACT, "api.example.com", "DNS"), ("DNS", "*.example.com")),
        (san(SanMatchKind.EXACT, "a.wild.test"), ("DNS", "*.wild.test")),
        (san(SanMatchKind.EXACT, "A.Wild.Test"), ("DNS", "*.wILD.test")),
        (san(SanMatchKind.EXACT, "web-1.wild.test"), ("DNS", "web-*.wild.test")),
        (san(SanMatchKind.EXACT, "web-1-a.wild.test", "DNS"), ("DNS", "web-*-a.wild.test")),
        (san(SanMatchKind.EXACT, "xn--bcher-kva.wild.test"), ("DNS", "*.wild.test")),
        (san(SanMatchKind.EXACT, "*.wild.test"), ("DNS", "*.wild.test")),
        (san(SanMatchKind.EXACT, "a.test"), ("DNS", "*.test")),
        (san(SanMatchKind.EXACT, "localhost"), ("DNS", "LOCALHOST")),
        (san(SanMatchKind.SUFFIX, ".Wild.test", "DNS"), ("DNS", "a.Wild.test")),
        (san(SanMatchKind.PREFIX, "*."), ("DNS", "*.wild.test")),
        (san(SanMatchKind.EXACT, "2001:db8::1", "IP_ADDRESS"), ("IP_ADDRESS", "2001:db8::1")),
        (san(SanMatchKind.EXACT, "2001:DB8:0::1", "IP_ADDRESS"), ("IP_ADDRESS", "2001:db8::1")),
    ],
)
def test_names_that_match(match: SanMatch, name: tuple[str, str]) -> None:
    PeerVerifier([match]).check([("DNS", "other"), name])


@pytest.mark.parametrize(
    ("match", "name"),
    [
        (san(SanMatchKind.EXACT, WORKLOAD[1], "DNS"), WORKLOAD),
        (san(SanMatchKind.EXACT, WORKLOAD[1] + "2"), WORKLOAD),
        (san(SanMatchKind.REGEX, "spiffe://cluster.local"), WORKLOAD),
        (san(SanMatchKind.EXACT, "a.b.example.com", "DNS"), ("DNS", "*.example.com")),
        (san(SanMatchKind.EXACT, "example.com", "DNS"), ("DNS", "*.example.com")),
        (san(SanMatchKind.SUFFIX, "other.com", "DNS"), ("DNS", "*.example.com")),
        (san(SanMatchKind.EXACT, "a.wild.test", "URI"), ("DNS", "*.wild.test")),
        (san(SanMatchKind.EXACT, "a.wild.test"), ("URI", "*.wild.test")),
        (san(SanMatchKind.EXACT, "A@wild.test"), ("EMAIL", "a@wild.test")),
        (san(SanMatchKind.EXACT, "a.wild.test"), ("EMAIL", "*.wild.test")),
        (san(SanMatchKind.EXACT, "*.wild.test"), ("DNS", "a.wild.test")),
        (san(SanMatchKind.EXACT, ".wild.test"), ("DNS", "*.wild.test")),
        (san(SanMatchKind.EXACT, "wild.test"), ("DNS", "*.wild.test")),
        (san(SanMatchKind.EXACT, "a.b.wild.test"), ("DNS", "*.wild.test")),
        (san(SanMatchKind.EXACT, "a.b.wild.test"), ("DNS", "a.*.wild.test")),
        (san(SanMatchKind.EXACT, "a.wild.test"), ("DNS", "**.wild.test")),
        (san(SanMatchKind.EXACT, "a.wild.test"), ("DNS", "*.*.test")),
        (san(SanMatchKind.EXACT, "web.wild.test"), ("DNS", "web-*.wild.test")),
        (san(SanMatchKind.EXACT, "aba.wild.test"), ("DNS", "ab*ba.wild.test")),
        (san(SanMatchKind.EXACT, "xn--bcher-kva.wild.test"), ("DNS", "xn--*.wild.test")),
        (san(SanMatchKind.EXACT, "localhost"), ("DNS", "*")),
        (san(SanMatchKind.EXACT, "a.\u212aelvin.test"), ("DNS", "*.kelvin.test")),
        (san(SanMatchKind.PREFIX, "a."), ("DNS", "*.wild.test")),
        (san(SanMatchKind.SUFFIX, ".wild.test", "DNS"), ("DNS", "a.WILD.test")),
        (san(SanMatchKind.REGEX, "a[.]wild[.]test"), ("DNS", "*.wild.test")),
    ],
)
def test_names_that_do_not(match: SanMatch, name: tuple[str, str]) -> None:
    with pytest.raises(IdentityError, match="no name of the peer matches"):
        PeerVerifier([match]).check([name])


def test_the_bundle_of_a_trust_domain_speaks_for_its_own_workloads_alone() -> None:
    verifier = PeerVerifier((), "cluster.local")
    assert verifier.check([WORKLOAD]) == WORKLOAD[1]
    for names in (
        [("URI", "spiffe://elsewhere/ns/default/sa/reviews")],
        [("DNS", "istiod.istio-system.svc")],
        [("URI", "https://cluster.local/ns/default/sa/reviews")],
        [],
        [WORKLOAD, WORKLOAD],
    ):
        with pytest.raises(IdentityError):
            verifier.check(names)


def test_two_identities_are_always_refused() -> None:
    with pytest.raises(IdentityError, match="2 SPIFFE ids"):
        PeerVerifier([san(SanMatchKind.PREFIX, "spiffe://")]).check(
            [WORKLOAD, ("URI", "spiffe://cluster.local/ns/default/sa/admin")]
        )


def test_a_peer_outside_the_mesh_has_no_id() -> None:
    assert PeerVerifier(()).check([("DNS", "example.com")]) == ""


def test_a_pattern_that_does_not_compile_is_named() -> None:
    with pytest.raises(IdentityError, match=r"invalid name pattern '\('"):
        PeerVerifier([san(SanMatchKind.REGEX, "(")])


class Connection:
    """The end of a handshake with a peer that has this certificate."""

    def __init__(self, certificate: bytes | None, fields: dict[str, object], *, session_reused: bool = False):
        self.session_reused = session_reused
        self.parsed = 0
        self._certificate = certificate
        self._fields = fields

    def getpeercert(self, *, binary_form: bool = False) -> object:
        if binary_form:
            return self._certificate
        self.parsed += 1
        return None if self._certificate is None else self._fields


def verify(verifier: PeerVerifier, connection: Connection) -> Peer:
    return verifier.verify(cast("ssl.SSLObject", connection))


FIELDS = {"subjectAltName": (WORKLOAD,), "subject": (), "notAfter": "Jan  1 00:00:00 2020 GMT"}


def test_subject_and_fingerprint_of_a_certificate() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, 'a, "b"')])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    peer = verify(PeerVerifier(()), Connection(certificate, {"subject": ((("commonName", 'a, "b"'),),)}))
    assert peer.subject == r"CN=a\, \"b\"" == name.rfc4514_string()
    assert peer.certificate_sha256 == hashlib.sha256(certificate).hexdigest()


def test_peer_without_a_certificate_is_anonymous_unless_its_names_must_match() -> None:
    assert verify(PeerVerifier((), "cluster.local"), Connection(None, {})) == Peer()
    with pytest.raises(IdentityError, match="no certificate"):
        verify(PeerVerifier([san(SanMatchKind.PREFIX, "spiffe://")]), Connection(None, {}))


def test_certificate_is_parsed_once_for_all_connections_of_its_owner() -> None:
    verifier = PeerVerifier((), "cluster.local")
    first, second, other = Connection(b"1", FIELDS), Connection(b"1", FIELDS), Connection(b"2", FIELDS)
    assert verify(verifier, first) == verify(verifier, second)
    assert verify(verifier, other).id == WORKLOAD[1]
    assert (first.parsed, second.parsed, other.parsed) == (1, 0, 1)


def test_peer_that_was_refused_is_refused_again() -> None:
    verifier = PeerVerifier((), "elsewhere")
    for _ in range(2):
        with pytest.raises(IdentityError, match="not in the trust domain elsewhere"):
            verify(verifier, Connection(b"1", FIELDS))


def test_certificate_that_openssl_has_not_verified_is_no_answer_for_later_connections() -> None:
    verifier = PeerVerifier(())
    assert verify(verifier, Connection(b"1", {})).id == ""
    assert verify(verifier, Connection(b"1", FIELDS)).id == WORKLOAD[1]


SERVER = Connection(
    b"1", {"subjectAltName": (("DNS", "*.a.test"), ("URI", "uri.test"), ("IP Address", "2001:DB8:0::1"))}
)


@pytest.mark.parametrize("name", ["b.a.test", "B.A.test", "uri.test", "2001:db8::1"])
def test_a_server_has_the_name_that_the_request_demands(name: str) -> None:
    check_server_name(cast("ssl.SSLObject", SERVER), name)


@pytest.mark.parametrize("name", ["a.test", "c.b.a.test", "a.uri.test", "2001:db8::2", ""])
def test_a_server_with_other_names_is_refused(name: str) -> None:
    with pytest.raises(IdentityError, match="the certificate is not for"):
        check_server_name(cast("ssl.SSLObject", SERVER), name)


def test_a_server_that_openssl_has_not_verified_has_no_name() -> None:
    with pytest.raises(IdentityError, match="roots to verify it are missing"):
        check_server_name(cast("ssl.SSLObject", Connection(b"1", {})), "b.a.test")


def test_known_certificate_expires_for_resumed_sessions() -> None:
    verifier = PeerVerifier((), "cluster.local")
    assert verify(verifier, Connection(b"1", FIELDS)).id == WORKLOAD[1], "OpenSSL has checked the dates"
    with pytest.raises(IdentityError, match="has expired"):
        verify(verifier, Connection(b"1", FIELDS, session_reused=True))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (((("countryName", "CH"),), (("organizationName", "A"),), (("commonName", "x"),)), "CN=x,O=A,C=CH"),
        (((("commonName", "x"), ("userId", "7")),), "CN=x+UID=7"),
        (((("emailAddress", "a@b"),), (("1.2.3.4", "y"),)), "1.2.3.4=y,emailAddress=a@b"),
        (((("commonName", " a "),),), r"CN=\ a\ "),
        (((("commonName", "#a"),),), r"CN=\#a"),
        (((("commonName", " "),),), r"CN=\ "),
        (((("commonName", "a\r\n\0b;c"),),), r"CN=a\0D\0A\00b\;c"),
        ((), ""),
    ],
)
def test_distinguished_name(name: tuple[tuple[tuple[str, str], ...], ...], text: str) -> None:
    assert distinguished_name(name) == text
