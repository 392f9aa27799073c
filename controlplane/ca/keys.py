"""The key types that the authority accepts, and their serialization."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_CURVES = (ec.SECP256R1, ec.SECP384R1)
_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 8192  # verification with a larger key is too expensive


def make_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private_key_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key_der(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def require_strong(key: CertificatePublicKeyTypes) -> PublicKey:
    """Returns ``key`` if its type and size are accepted for a certificate. Raises ``ValueError`` with the
    reason otherwise."""
    match key:
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, _CURVES):
            return key
        case ec.EllipticCurvePublicKey():
            raise ValueError(f"an EC key on {key.curve.name}; P-256 or P-384 is required")
        case rsa.RSAPublicKey() if _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
            return key
        case rsa.RSAPublicKey():
            raise ValueError(
                f"an RSA key of {key.key_size} bits; {_MIN_RSA_BITS} to {_MAX_RSA_BITS} are required"
            )
        case ed25519.Ed25519PublicKey():
            return key
        case _:
            raise ValueError(f"a key of type {type(key).__name__}; EC, RSA or Ed25519 is required")
