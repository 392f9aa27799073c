"""What a signing request must be before anything is signed. It contributes its key, and nothing else."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from controlplane.ca.keys import PublicKey, require_strong
from controlplane.errors import InvalidRequestError, PermissionDeniedError, RequestTooLargeError
from protos.spiffe import SpiffeId

MAX_CSR_BYTES: Final = 16 * 1024

# What the library raises for bytes that are no request, or no certificate; it has no common type for them.
MALFORMED: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


def accept_key(csr_pem: str, identity: SpiffeId) -> PublicKey:
    """The public key whose private half the caller holds.

    ``identity`` is whom the caller's token proves. Raises `RequestTooLargeError`, `InvalidRequestError`, and
    `PermissionDeniedError` when the CSR asks to be somebody else."""
    if len(csr_pem) > MAX_CSR_BYTES:
        raise RequestTooLargeError(f"the CSR has {len(csr_pem)} characters, more than {MAX_CSR_BYTES}")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode("utf-8", "replace"))
        key = request.public_key()
        extensions = request.extensions
    except MALFORMED as error:
        raise InvalidRequestError(f"the CSR does not parse: {error}") from error
    try:
        strong_key = require_strong(key)
    except ValueError as error:
        raise InvalidRequestError(f"the CSR holds {error}") from error
    _refuse_key_not_held(request)  # last of the key's checks: it costs what the key's size makes it cost
    _refuse_other_identity(extensions, identity)
    _refuse_authority(extensions)
    return strong_key


def _refuse_key_not_held(request: x509.CertificateSigningRequest) -> None:
    try:
        if request.is_signature_valid:
            return
    except MALFORMED as error:
        raise InvalidRequestError(f"the CSR's signature cannot be verified: {error}") from error
    raise InvalidRequestError("the CSR's signature does not verify: it is not signed with the key it holds")


def _refuse_other_identity(extensions: x509.Extensions, identity: SpiffeId) -> None:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    allowed = x509.UniformResourceIdentifier(str(identity))
    for name in names:
        if name != allowed:
            raise PermissionDeniedError(f"the CSR asks for {name.value!r}, but the token proves {identity}")


def _refuse_authority(extensions: x509.Extensions) -> None:
    """Nothing of it would be signed, but who asks for it is no honest workload."""
    for extension in extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True) | x509.KeyUsage(key_cert_sign=True):
                raise InvalidRequestError("the CSR asks to be a certificate authority")
