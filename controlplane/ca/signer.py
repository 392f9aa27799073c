"""The certificate and key that sign, from files: a self-signed root of our own, or what the operator gave."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from controlplane.ca import state_files
from controlplane.ca.csr import MALFORMED
from controlplane.ca.keys import (
    PrivateKey,
    PublicKey,
    make_key,
    private_key_pem,
    public_key_der,
    require_strong,
)
from controlplane.ca.templates import root_certificate, validity
from controlplane.errors import SettingsError

# One file for both, so that a key never meets another start's certificate.
ROOT_FILE: Final = "root-ca.pem"
# For clients, without the key.
TRUST_BUNDLE_FILE: Final = "root-cert.pem"

_ROOT_LIFETIME_S: Final = 10 * 365 * 24 * 3600.0  # istiod's


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """``intermediates`` lead from the signing certificate, itself excluded, up to but without the root.
    ``roots`` is the trust bundle: several at once while a root is being replaced."""

    certificate: x509.Certificate
    key: PrivateKey
    intermediates: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]

    @property
    def is_root(self) -> bool:
        return self.certificate in self.roots

    @property
    def expires(self) -> datetime:
        """When the first certificate of the chain ends: nothing that was signed is valid after it."""
        return min(c.not_valid_after_utc for c in (self.certificate, *self.intermediates))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerFiles:
    """A signing certificate and key from elsewhere. ``chain`` holds the intermediates above it, ``roots`` the
    trust bundle; both may be omitted when the certificate is itself a root."""

    certificate: Path
    key: Path
    chain: Path | None = None
    roots: Path | None = None


def load_or_create_root(
    state_dir: Path, trust_domain: str, now: float, more_roots: Path | None = None
) -> Signer:
    """Our own root, made when the state folder has none. ``more_roots`` are trusted beside it. Raises
    `SettingsError`."""
    path = state_dir / ROOT_FILE
    pem = state_files.load_or_create(path, lambda: _new_root_pem(trust_domain, now))
    certificates = _parse_certificates(pem, path)
    if len(certificates) != 1:
        raise SettingsError(f"{path}: expected one certificate, found {len(certificates)}")
    root = certificates[0]
    roots = (root, *(_read_certificates(more_roots) if more_roots else ()))
    signer = Signer(certificate=root, key=_parse_key(pem, path), intermediates=(), roots=_unique(roots))
    return _checked(signer, path, path, now)


def load_signer(files: SignerFiles, now: float) -> Signer:
    """A given root or intermediate. Raises `SettingsError`."""
    certificate = _read_certificates(files.certificate)[0]
    key = _parse_key(state_files.read_secret(files.key), files.key)
    if files.roots:
        roots = _read_certificates(files.roots)
    elif _self_signed(certificate):
        roots = (certificate,)
    else:
        raise SettingsError(
            f"{files.certificate} is not self-signed: name the root it chains to with --root-cert"
        )
    # istiod's cert-chain.pem begins with the signing certificate and may end with the root.
    chain = _read_certificates(files.chain) if files.chain else ()
    intermediates = tuple(c for c in chain if c != certificate and c not in roots)
    signer = Signer(certificate=certificate, key=key, intermediates=intermediates, roots=_unique(roots))
    return _checked(signer, files.certificate, files.key, now)


def _new_root_pem(trust_domain: str, now: float) -> bytes:
    key = make_key()
    template = root_certificate(trust_domain, key.public_key(), validity(now, _ROOT_LIFETIME_S))
    return private_key_pem(key) + template.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _checked(signer: Signer, certificate_path: Path, key_path: Path, now: float) -> Signer:
    certificate = signer.certificate
    if public_key_der(signer.key.public_key()) != public_key_der(_strong_key(certificate, certificate_path)):
        raise SettingsError(f"the key in {key_path} is not the key of the certificate in {certificate_path}")
    for above in (certificate, *signer.intermediates, *signer.roots):
        _require_authority(above, certificate_path)
    for valid in (certificate, *signer.intermediates):
        _require_valid_at(valid, certificate_path, now)
    _require_chain(signer, certificate_path, now)
    return signer


def _require_authority(certificate: x509.Certificate, path: Path) -> None:
    try:
        may_sign = _may_sign(certificate.extensions)
    except MALFORMED as error:
        raise SettingsError(f"{path}: {_describe(certificate)} has a malformed extension: {error}") from error
    if not may_sign:
        raise SettingsError(f"{path}: {_describe(certificate)} is not an authority's: it may not sign others")


def _may_sign(extensions: x509.Extensions) -> bool:
    """RFC 5280 4.2.1.9 and 4.2.1.3: otherwise verifiers reject what the certificate has signed."""
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca:
            return False
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid == x509.KeyUsage.oid  # without a key usage, every usage is allowed


def _require_valid_at(certificate: x509.Certificate, path: Path, now: float) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    if moment >= certificate.not_valid_after_utc:
        raise SettingsError(f"{path}: {_describe(certificate)} expired at {certificate.not_valid_after_utc}")
    if moment < certificate.not_valid_before_utc:
        raise SettingsError(
            f"{path}: {_describe(certificate)} is not valid before {certificate.not_valid_before_utc}"
        )


def _require_chain(signer: Signer, path: Path, now: float) -> None:
    """Each certificate is issued by the next, the last by a valid root of the bundle."""
    if signer.is_root:
        return
    links = (signer.certificate, *signer.intermediates)
    for below, above in itertools.pairwise(links):
        if not _issued(below, above):
            raise SettingsError(
                f"{path}: {_describe(below)} is not issued by {_describe(above)}, next in the chain"
            )
    anchors = [root for root in signer.roots if _issued(links[-1], root)]
    if not anchors:
        raise SettingsError(f"{path}: {_describe(links[-1])} does not chain to a root of the trust bundle")
    _require_valid_at(max(anchors, key=lambda root: root.not_valid_after_utc), path, now)


def _issued(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (*MALFORMED, InvalidSignature):
        return False
    return True


def _self_signed(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer and _issued(certificate, certificate)


def _strong_key(certificate: x509.Certificate, path: Path) -> PublicKey:
    try:
        return require_strong(certificate.public_key())
    except MALFORMED as error:
        raise SettingsError(f"{path}: {_describe(certificate)} has {error}") from error


def _parse_key(pem: bytes, path: Path) -> PrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except MALFORMED as error:
        raise SettingsError(f"{path}: not an unencrypted PEM private key: {error}") from error
    if not isinstance(key, PrivateKey):
        raise SettingsError(f"{path}: a key of type {type(key).__name__} cannot sign; EC, RSA or Ed25519 can")
    return key


def _read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    return _parse_certificates(pem, path)


def _parse_certificates(pem: bytes, path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except MALFORMED as error:
        raise SettingsError(f"{path}: no PEM certificate: {error}") from error


def _unique(certificates: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    return tuple(dict.fromkeys(certificates))


def _describe(certificate: x509.Certificate) -> str:
    return f"the certificate {certificate.subject.rfc4514_string() or hex(certificate.serial_number)}"
