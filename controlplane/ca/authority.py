"""The certificate authority. It signs certificates and validates each one before it returns it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from controlplane.ca import templates
from controlplane.ca.keys import PublicKey, public_key_der
from controlplane.ca.signer import Signer
from controlplane.errors import AuthorityUnavailableError
from protos.spiffe import SpiffeId

# istiod's defaults.
DEFAULT_LIFETIME_S: Final = 24 * 3600.0
MAX_LIFETIME_S: Final = 90 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """``chain``: the leaf first, then the intermediates, without the root."""

    chain: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def chain_pem(self) -> tuple[str, ...]:
        return tuple(_pem(certificate) for certificate in self.chain)


class Authority:
    """Issues certificates. Lifetimes are in seconds; ``clock`` returns seconds since the epoch."""

    def __init__(
        self,
        signer: Signer,
        *,
        default_lifetime_s: float = DEFAULT_LIFETIME_S,
        max_lifetime_s: float = MAX_LIFETIME_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._signer = signer
        self._default_lifetime_s: Final = default_lifetime_s
        self._max_lifetime_s: Final = max_lifetime_s
        self._clock: Final = clock

    @property
    def signer(self) -> Signer:
        return self._signer

    def use(self, signer: Signer) -> None:
        """Uses ``signer`` for the certificates that are issued from now on."""
        self._signer = signer

    @property
    def trust_bundle_pem(self) -> tuple[str, ...]:
        return tuple(_pem(root) for root in self._signer.roots)

    @property
    def root_expires(self) -> datetime:
        """The time at which the first root of the trust bundle expires."""
        return min(root.not_valid_after_utc for root in self._signer.roots)

    @property
    def signer_expires(self) -> datetime:
        return self._signer.expires

    def issue_workload(
        self, identity: SpiffeId, key: PublicKey, requested_lifetime_s: float = 0.0
    ) -> IssuedCertificate:
        """Issues a workload certificate. A ``requested_lifetime_s`` of 0 means the default. Raises
        `AuthorityUnavailableError`."""
        lifetime_s = min(requested_lifetime_s or self._default_lifetime_s, self._max_lifetime_s)
        signer = self._signer
        valid = self._validity(signer, lifetime_s)
        template = templates.workload_certificate(identity, key, signer.certificate, valid)
        return self._sign(signer, template, key, [str(identity)])

    def issue_server(self, hosts: Sequence[str], key: PublicKey) -> IssuedCertificate:
        """Issues a certificate for the control plane itself. Can be called from any thread. Raises
        `AuthorityUnavailableError`."""
        signer = self._signer
        valid = self._validity(signer, DEFAULT_LIFETIME_S)
        template = templates.server_certificate(hosts, key, signer.certificate, valid)
        return self._sign(signer, template, key, hosts)

    def _validity(self, signer: Signer, lifetime_s: float) -> templates.Validity:
        now = self._clock()
        if datetime.fromtimestamp(now, UTC) >= signer.expires:
            raise AuthorityUnavailableError(f"the signing certificate expired at {signer.expires}")
        return templates.validity(now, lifetime_s, signer.expires)

    def _sign(
        self, signer: Signer, template: x509.CertificateBuilder, key: PublicKey, names: Sequence[str]
    ) -> IssuedCertificate:
        # RFC 8032: Ed25519 includes its own hash.
        digest = None if isinstance(signer.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        leaf = template.sign(signer.key, digest)
        _validate(signer, leaf, key, names)
        issuers = () if signer.is_root else (signer.certificate, *signer.intermediates)
        return IssuedCertificate(chain=(leaf, *issuers))


def _validate(signer: Signer, leaf: x509.Certificate, key: PublicKey, names: Sequence[str]) -> None:
    """Checks a signed certificate before it is returned, so that a defect in a template cannot reach a
    workload. Raises `AuthorityUnavailableError`."""
    try:
        leaf.verify_directly_issued_by(signer.certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise AuthorityUnavailableError(
            f"the signature of the new certificate does not verify: {error}"
        ) from error
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    signed_names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    sound = (
        public_key_der(key) == public_key_der(leaf.public_key())
        and not constraints.ca
        and signed_names.critical
        and [str(name.value) for name in signed_names.value] == list(names)
        and leaf.not_valid_before_utc < leaf.not_valid_after_utc <= signer.expires
    )
    if not sound:
        raise AuthorityUnavailableError("the new certificate differs from the requested one")


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
