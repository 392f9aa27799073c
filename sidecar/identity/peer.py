"""Checks the names in a peer's certificate, and finds its SPIFFE id. OpenSSL has verified the chain."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from protos.spiffe import SpiffeId
from sidecar.config.tls import SanMatch, SanMatchKind
from sidecar.errors import IdentityError
from sidecar.regex import RegexError, compile_full_match

_ANY: Final = "ANY"
# The names that `ssl` uses for the kinds in ``SubjectAltNameMatcher.SanType``.
_SAN_TYPES: Final = {"URI": "URI", "DNS": "DNS", "email": "EMAIL", "IP Address": "IP_ADDRESS"}
_SPIFFE: Final = "spiffe://"
# RFC 4514 3; other attributes keep the name that OpenSSL gives them.
_ATTRIBUTES: Final = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_SPECIAL: Final = re.compile(r"[,+\"\\<>;]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

Name = tuple[str, str]
"""A subject alternative name: its ``SanType`` and its value."""


# A certificate is parsed once, not for each connection of its owner.
_MAX_KNOWN: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The peer as its certificate describes it. ``id``: its SPIFFE URI, empty without one.
    ``certificate_sha256`` is hexadecimal, ``subject`` by RFC 2253; both are empty without a certificate.
    ``expires_s`` is in seconds since the epoch."""

    id: str = ""
    certificate_sha256: str = ""
    subject: str = ""
    expires_s: float = math.inf


ANONYMOUS: Final = Peer()


class PeerVerifier:
    """Compiled once from the SAN matches of a validation context.

    ``trust_domain`` is set if the workload's trust bundle verifies the peer. A bundle is valid for one trust
    domain only (SPIFFE Trust Domain and Bundle 3): without SAN matches, which may name aliases, the peer must
    be a workload of that domain.
    """

    __slots__ = ("_known", "_matchers", "_trust_domain")

    def __init__(self, sans: Iterable[SanMatch], trust_domain: str = "") -> None:
        """Raises `IdentityError` for an invalid regex."""
        self._matchers = tuple(_compile(san) for san in sans)
        self._trust_domain = trust_domain
        self._known: dict[bytes, Peer] = {}  # by the certificate: those that passed

    def verify(self, connection: ssl.SSLObject) -> Peer:
        """The connection's peer, whose handshake is done with a context of this verifier's roots. Raises
        `IdentityError`."""
        certificate = connection.getpeercert(binary_form=True)
        if certificate is None:
            if self._matchers:
                raise IdentityError("the peer presented no certificate, but its names must match")
            return ANONYMOUS
        peer = self._known.get(certificate) or self._examine(connection, certificate)
        # OpenSSL checks that only in the first handshake of a session.
        if connection.session_reused and peer.expires_s <= time.time():
            raise IdentityError("the certificate of the resumed session has expired")
        return peer

    def _examine(self, connection: ssl.SSLObject, certificate: bytes) -> Peer:
        fields: Mapping[str, Any] = connection.getpeercert() or {}  # empty if OpenSSL did not verify it
        not_after = fields.get("notAfter")
        peer = Peer(
            id=self.check(_names(fields)),
            certificate_sha256=hashlib.sha256(certificate).hexdigest(),
            subject=distinguished_name(fields.get("subject", ())),
            expires_s=math.inf if not_after is None else ssl.cert_time_to_seconds(not_after),
        )
        if fields:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[certificate] = peer
        return peer

    def check(self, names: list[Name]) -> str:
        """The SPIFFE URI among the names of a certificate, empty without one. Raises `IdentityError`."""
        uris = [value for kind, value in names if kind == "URI"]
        if self._matchers:
            if not any(matches(name) for matches in self._matchers for name in names):
                raise IdentityError(f"no name of the peer matches: {_listed(names)}")
        elif self._trust_domain:
            self._check_trust_domain(uris)
        ids = [uri for uri in uris if uri.startswith(_SPIFFE)]
        if len(ids) > 1:  # X509-SVID 2: the identity would be ambiguous
            raise IdentityError(f"the peer has {len(ids)} SPIFFE ids: {_listed(names)}")
        return ids[0] if ids else ""

    def _check_trust_domain(self, uris: list[str]) -> None:
        try:
            (uri,) = uris
            found = SpiffeId.parse(uri).trust_domain
        except ValueError as error:
            raise IdentityError(f"the peer is not a workload: its URI names are {uris}") from error
        if found != self._trust_domain:
            raise IdentityError(f"the peer {uri} is not in the trust domain {self._trust_domain}")


def check_server_name(connection: ssl.SSLObject, name: str) -> None:
    """Raises `IdentityError` unless OpenSSL has verified the server's certificate, and a name in it is `name`
    or covers it. As in Envoy, the type of the name does not matter."""
    certificate = connection.getpeercert()
    if not certificate:  # OpenSSL did not verify it
        raise IdentityError("the server's name must match, but roots to verify it are missing")
    names = _names(certificate)
    matches = _compile(SanMatch(kind=SanMatchKind.EXACT, value=_canonical_ip(name)))
    if not any(matches(found) for found in names):
        raise IdentityError(f"the certificate is not for {name!r:.300}: {_listed(names)}")


def distinguished_name(name: Iterable[Iterable[Name]]) -> str:
    """RFC 2253 2: the most specific part first. ``name`` as `ssl` shows it, each attribute by its long
    name."""
    return ",".join(
        "+".join(f"{_ATTRIBUTES.get(kind, kind)}={_escaped(value)}" for kind, value in part)
        for part in reversed(list(name))
    )


def _escaped(value: str) -> str:
    """RFC 2253 2.4. Control characters are escaped too, as by OpenSSL."""
    text = _SPECIAL.sub(r"\\\g<0>", value)
    text = _CONTROL.sub(lambda found: f"\\{ord(found[0]):02X}", text)
    if text.endswith(" ") and len(value) > 1:
        text = text[:-1] + "\\ "
    return f"\\{text}" if value.startswith((" ", "#")) else text


def _names(certificate: Mapping[str, Any]) -> list[Name]:
    """The names in `ssl.SSLObject.getpeercert`, without the kinds that no match can select."""
    names = [(_SAN_TYPES.get(kind, ""), value) for kind, value in certificate.get("subjectAltName", ())]
    return [
        (kind, _canonical_ip(value.strip()) if kind == "IP_ADDRESS" else value)
        for kind, value in names
        if kind
    ]


def _compile(san: SanMatch) -> Callable[[Name], bool]:
    """As in Envoy, an exact match of a DNS name follows the rules of DNS, with or without a type. Other
    matches, and other types of names, compare the text."""
    test, wanted = _value_test(san), san.san_type
    covered = _dns_test(san.value) if san.kind is SanMatchKind.EXACT else test

    def matches(name: Name) -> bool:
        san_type, value = name
        if wanted not in (san_type, _ANY):
            return False
        return covered(value) if san_type == "DNS" else test(value)

    return matches


def _value_test(san: SanMatch) -> Callable[[str], bool]:
    wanted = san.value
    if san.san_type == "IP_ADDRESS" and san.kind is SanMatchKind.EXACT:
        wanted = _canonical_ip(wanted)
    match san.kind:
        case SanMatchKind.EXACT:
            return lambda value: value == wanted
        case SanMatchKind.PREFIX:
            return lambda value: value.startswith(wanted)
        case SanMatchKind.SUFFIX:
            return lambda value: value.endswith(wanted)
        case SanMatchKind.CONTAINS:
            return lambda value: wanted in value
        case SanMatchKind.REGEX:
            try:
                matches = compile_full_match(wanted)
            except RegexError as error:
                raise IdentityError(f"invalid name pattern {wanted!r}: {error}") from error
            return lambda value: matches(value.encode(errors="surrogateescape"))


def _dns_test(expected: str) -> Callable[[str], bool]:
    """Whether a name in a certificate covers the host `expected`, ignoring case (RFC 4343). One ``*`` may
    replace the leftmost label or a part of it, unless the label is an A-label (RFC 6125 6.4.3)."""
    wanted = _ascii_lower(expected)
    label, _, parent = wanted.partition(b".")

    def covers(name: str) -> bool:
        pattern = _ascii_lower(name)
        if pattern == wanted:
            return True
        leftmost, _, rest = pattern.partition(b".")
        if not parent or rest != parent or b"*" in rest or leftmost.startswith(b"xn--"):
            return False
        before, star, after = leftmost.partition(b"*")
        return (
            bool(star)
            and b"*" not in after
            and len(label) >= max(1, len(before) + len(after))
            and label.startswith(before)
            and label.endswith(after)
        )

    return covers


def _ascii_lower(name: str) -> bytes:
    """`str.lower` would turn letters outside ASCII, such as U+212A, into ASCII letters."""
    return name.encode(errors="surrogatepass").lower()


def _canonical_ip(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return value


def _listed(names: list[Name]) -> str:
    return ", ".join(f"{kind} {value}" for kind, value in names[:10]) or "it has no names"
