"""The signing certificate and its key from files: the generated self-signed root, or files of the
operator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controlplane.ca import state_files
from controlplane.ca.signer import Pem, Signer, SignerPems, make_root, own_root, parse_signer
from controlplane.errors import SettingsError

# One file for the certificate and the key, so that they always belong together.
ROOT_FILE: Final = "root-ca.pem"
# For clients: the trust bundle, without a key.
TRUST_BUNDLE_FILE: Final = "root-cert.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerFiles:
    """The paths of the parts of a `SignerPems`."""

    certificate: Path
    key: Path
    chain: Path | None = None
    roots: Path | None = None


def load_or_create_root(
    state_dir: Path, trust_domain: str, now: float, more_roots: Path | None = None
) -> Signer:
    """Returns the signer for the generated root. Generates the root when the state folder has none.
    ``more_roots`` are trusted in addition. Raises `SettingsError`."""
    state_files.load_or_create(state_dir / ROOT_FILE, lambda: b"".join(make_root(trust_domain, now)))
    return load_root(state_dir, now, more_roots)


def load_root(state_dir: Path, now: float, more_roots: Path | None = None) -> Signer:
    """Like `load_or_create_root`, but the root must exist. Raises `SettingsError`."""
    path = state_dir / ROOT_FILE
    pem = Pem(state_files.read_secret(path), str(path))
    return own_root(pem, pem, now, read_pem(more_roots))


def load_signer(files: SignerFiles, now: float) -> Signer:
    """Returns the signer for the operator's root or intermediate. Raises `SettingsError`."""
    pems = SignerPems(
        certificate=_read(files.certificate),
        key=Pem(state_files.read_secret(files.key), str(files.key)),
        chain=read_pem(files.chain),
        roots=read_pem(files.roots),
    )
    return parse_signer(pems, now)


def read_pem(path: Path | None) -> Pem | None:
    """Returns None when ``path`` is None. Raises `SettingsError`."""
    return None if path is None else _read(path)


def _read(path: Path) -> Pem:
    try:
        return Pem(path.read_bytes(), str(path))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
