"""The checks of an X.509-SVID before it is used.

https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from protos.spiffe import SpiffeId
from sidecar.errors import IdentityError
from sidecar.identity.key import WorkloadKey
from sidecar.identity.svid import SignedCertificate, Svid

_MAX_CHAIN_LENGTH = 10
# By how much the authority's clock may be ahead of ours, as the control plane tolerates it of ours.
_CLOCK_SKEW_S = 120.0


def _pem(certificates: Iterable[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def accept(signed: SignedCertificate, key: WorkloadKey, expected_id: SpiffeId, now: float) -> Svid:
    """Checks the SVID that an authority signed for ``key``. ``now``: seconds since the epoch.

    Raises `IdentityError` unless the leaf holds our key and the expected id and no other, is valid now or
    within the tolerated difference between two clocks, and chains to the trust bundle that came with it.
    """
    chain = _parse(signed.chain, "certificate chain")
    trust_bundle = _parse(signed.trust_bundle, "trust bundle")
    leaf = chain[0]
    if not key.is_key_of(leaf):
        raise IdentityError("the signed certificate is for a different key")
    found = spiffe_id_of(leaf)
    if found != expected_id:
        raise IdentityError(f"the signed certificate is for {found}, expected {expected_id}")
    _check_chain(chain, trust_bundle, now)
    return Svid(
        spiffe_id=found,
        chain=_pem(chain),
        key=key.pem(),
        trust_bundle=_pem(trust_bundle),
        begins_s=max(now, *(certificate.not_valid_before_utc.timestamp() for certificate in chain)),
        expires_s=min(certificate.not_valid_after_utc.timestamp() for certificate in chain),
    )


def spiffe_id_of(certificate: x509.Certificate) -> SpiffeId:
    """X509-SVID 2: exactly one URI name. Raises `IdentityError` otherwise."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError) as error:
        raise IdentityError(f"the certificate has no SPIFFE id: {error}") from error
    if len(uris) != 1:
        raise IdentityError(f"the certificate has {len(uris)} URI names, expected exactly one")
    try:
        return SpiffeId.parse(uris[0])
    except ValueError as error:
        raise IdentityError(f"the certificate's id: {error}") from error


def _parse(pems: Sequence[str], part: str) -> tuple[x509.Certificate, ...]:
    try:
        certificates = tuple(
            certificate for pem in pems for certificate in x509.load_pem_x509_certificates(pem.encode())
        )
    except ValueError as error:
        raise IdentityError(f"invalid {part}: {error}") from error
    if not certificates:
        raise IdentityError(f"the {part} is empty")
    return certificates


def _check_chain(
    chain: Sequence[x509.Certificate], trust_bundle: Sequence[x509.Certificate], now: float
) -> None:
    """Each certificate is signed by the next, the last by a root of the bundle; all are valid now or soon."""
    if len(chain) > _MAX_CHAIN_LENGTH:
        raise IdentityError(
            f"the certificate chain has {len(chain)} certificates, at most {_MAX_CHAIN_LENGTH}"
        )
    for position, certificate in enumerate(chain):
        _check_validity(certificate, position, now)
        issuers = chain[position + 1 : position + 2] or trust_bundle
        if not any(_issued(issuer, certificate) for issuer in issuers):
            raise IdentityError(
                f"certificate {position} of the chain ({certificate.issuer.rfc4514_string() or 'no issuer'}) "
                "does not chain to the trust bundle"
            )


def _check_validity(certificate: x509.Certificate, position: int, now: float) -> None:
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not starts.timestamp() - _CLOCK_SKEW_S <= now < ends.timestamp():
        raise IdentityError(f"certificate {position} of the chain is valid from {starts} to {ends}, not now")


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    return constraints.ca
