"""The certificates and roots of a TLS context: the workload's, those of a secret, or inline ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from protos.node import TRUST_BUNDLE_SECRET, WORKLOAD_CERTIFICATE_SECRET
from sidecar.config.tls import DataSource, SanMatch, Secret, TlsCertificate, TlsParameters, Validation
from sidecar.errors import IdentityError
from sidecar.identity.svid_pem import SvidPem

INLINE: Final = "<inline>"
_SYSTEM: Final = "<system>"
_FIXED: Final = frozenset((INLINE, _SYSTEM))
# Far above any real file; a path like /dev/zero must not fill the memory.
_MAX_FILE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """PEM: the chain, leaf first, and its key. ``path``: the source of the chain, for messages."""

    chain: bytes
    key: bytes = field(repr=False)
    path: str = INLINE


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """PEM certificates, or those of the operating system. Only the workload's bundle has a trust domain."""

    certificates: bytes = b""
    path: str = INLINE
    trust_domain: str = ""
    system: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The resolved `TlsParameters`. Without ``key_pair`` no certificate is presented; without ``roots`` the
    peer is not verified."""

    key_pair: KeyPair | None
    roots: Roots | None
    sans: tuple[SanMatch, ...]

    @property
    def from_files(self) -> bool:
        """Whether any part comes from a file, which may change."""
        return any(part is not None and part.path not in _FIXED for part in (self.key_pair, self.roots))


def names_svid(parameters: TlsParameters) -> bool:
    """Whether these parameters use the workload's certificate or its trust bundle."""
    return (
        parameters.certificate_secret == WORKLOAD_CERTIFICATE_SECRET
        or parameters.validation_secret == TRUST_BUNDLE_SECRET
    )


def awaits_svid(parameters: TlsParameters, secrets: Mapping[str, Secret]) -> bool:
    """Whether these parameters need the workload's identity from the authority."""
    certificate, bundle = parameters.certificate_secret, parameters.validation_secret
    return (certificate == WORKLOAD_CERTIFICATE_SECRET and certificate not in secrets) or (
        bundle == TRUST_BUNDLE_SECRET and bundle not in secrets
    )


def resolve(parameters: TlsParameters, svid: SvidPem | None, secrets: Mapping[str, Secret]) -> Material:
    """Reads files and secrets. Raises `IdentityError` for a missing one."""
    roots, sans = _validation(parameters, svid, secrets)
    return Material(key_pair=_key_pair(parameters, svid, secrets), roots=roots, sans=sans)


def _key_pair(
    parameters: TlsParameters, svid: SvidPem | None, secrets: Mapping[str, Secret]
) -> KeyPair | None:
    name = parameters.certificate_secret
    if name is None:
        return None if parameters.certificate is None else _load_key_pair(parameters.certificate)
    if name == WORKLOAD_CERTIFICATE_SECRET and svid is not None:
        return KeyPair(chain=svid.chain, key=svid.key)
    secret = _secret(name, secrets)
    if secret.certificate is None:
        raise IdentityError(f"the secret {name!r} has no certificate")
    return _load_key_pair(secret.certificate)


def _validation(
    parameters: TlsParameters, svid: SvidPem | None, secrets: Mapping[str, Secret]
) -> tuple[Roots | None, tuple[SanMatch, ...]]:
    in_place = parameters.validation or Validation()
    name = parameters.validation_secret
    if name is None:
        return _load_roots(in_place), in_place.match_sans
    if name == TRUST_BUNDLE_SECRET and svid is not None:
        own = Roots(certificates=svid.trust_bundle, trust_domain=svid.spiffe_id.trust_domain)
        return own, in_place.match_sans
    validation = _secret(name, secrets).validation
    if validation is None:
        raise IdentityError(f"the secret {name!r} has no validation context")
    # Envoy's combined validation context: the inline one is merged over the secret.
    return _load_roots(in_place) or _load_roots(validation), in_place.match_sans + validation.match_sans


def _secret(name: str, secrets: Mapping[str, Secret]) -> Secret:
    secret = secrets.get(name)
    if secret is None:
        raise IdentityError(f"unknown secret {name!r}")
    return secret


def _load_key_pair(certificate: TlsCertificate) -> KeyPair:
    chain, key = certificate.certificate_chain, certificate.private_key
    path = chain.filename or key.filename or INLINE
    return KeyPair(chain=read_source(chain), key=read_source(key), path=path)


def _load_roots(validation: Validation) -> Roots | None:
    source = validation.trusted_ca
    if validation.system_roots:
        return Roots(path=_SYSTEM, system=True)
    if source is None:
        return None
    return Roots(certificates=read_source(source), path=source.filename or INLINE)


def read_source(source: DataSource) -> bytes:
    """The inline data, or the current content of the file. Raises `IdentityError`."""
    if source.filename is None:
        return source.inline or b""
    try:
        with Path(source.filename).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # a name with a NUL is a `ValueError`
        reason = getattr(error, "strerror", None) or error
        raise IdentityError(f"{source.filename}: cannot be read: {reason}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise IdentityError(f"{source.filename}: is larger than {_MAX_FILE_BYTES} bytes")
    return content
