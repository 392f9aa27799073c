"""Checks of a certificate signing request. Only its public key is used in the certificate."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from controlplane.ca.keys import PublicKey, require_strong
from controlplane.errors import InvalidRequestError, PermissionDeniedError, RequestTooLargeError
from protos.spiffe import SpiffeId

MAX_CSR_BYTES: Final = 16 * 1024

# The exceptions that the library raises for a malformed request or certificate; they have no common type.
MALFORMED: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def accept_key(csr_pem: str, identity: SpiffeId) -> PublicKey:
    """Returns the public key of a CSR that is signed with the matching private key.

    ``identity`` is the identity that the caller's token authenticates. Raises `RequestTooLargeError`,
    `InvalidRequestError`, and `PermissionDeniedError` when the CSR requests another identity."""
    if len(csr_pem) > MAX_CSR_BYTES:
        raise RequestTooLargeError(f"the CSR has {len(csr_pem)} characters, more than {MAX_CSR_BYTES}")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode("utf-8", "replace"))
        key = request.public_key()
        extensions = request.extensions
    except MALFORMED as error:
        raise InvalidRequestError(f"the CSR cannot be parsed: {error}") from error
    try:
        strong_key = require_strong(key)
    except ValueError as error:
        raise InvalidRequestError(f"the CSR contains {error}") from error
    _refuse_key_not_held(request)  # after the check of the key's size, which bounds the cost of this one
    _refuse_other_identity(extensions, identity)
    _refuse_authority(extensions)
    return strong_key


def _refuse_key_not_held(request: x509.CertificateSigningRequest) -> None:
    try:
        if request.is_signature_valid:
            return
    except MALFORMED as error:
        raise InvalidRequestError(f"the CSR's signature cannot be verified: {error}") from error
    raise InvalidRequestError(
        "the CSR's signature does not verify: it is not signed with the key that it contains"
    )


def _refuse_other_identity(extensions: x509.Extensions, identity: SpiffeId) -> None:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    allowed = x509.UniformResourceIdentifier(str(identity))
    for name in names:
        if name != allowed:
            raise PermissionDeniedError(
                f"the CSR requests {name.value!r}, but the token belongs to {identity}"
            )


def _refuse_authority(extensions: x509.Extensions) -> None:
    """The template ignores these extensions, but a correct workload does not send them."""
    for extension in extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True) | x509.KeyUsage(key_cert_sign=True):
                raise InvalidRequestError("the CSR requests a certificate authority")
