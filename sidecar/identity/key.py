"""The workload's private key: generated here, never written to a file or sent to a peer."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from protos.spiffe import SpiffeId


class WorkloadKey:
    """An EC P-256 key. Its ``repr`` does not show it, and it cannot be pickled: `pem` is for a `Svid`."""

    __slots__ = ("_private",)

    def __init__(self) -> None:
        self._private: Final = ec.generate_private_key(ec.SECP256R1())

    def __reduce__(self) -> str:
        raise TypeError("a private key does not leave its process")

    def is_key_of(self, certificate: x509.Certificate) -> bool:
        public: PublicKeyTypes = certificate.public_key()
        return public == self._private.public_key()

    def signing_request(self, spiffe_id: SpiffeId | None = None) -> str:
        """A PKCS #10 request, PEM. The authority derives the identity from the caller's token. With the
        expected identity in the request, it can refuse a token of another workload."""
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        if spiffe_id is not None:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id))])
            request = request.add_extension(names, critical=True)
        return request.sign(self._private, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def pem(self) -> bytes:
        """PKCS #8, for a `Svid` only."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
