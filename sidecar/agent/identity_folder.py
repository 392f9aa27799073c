"""The workload's certificate in files for an Envoy (`protos.identity_files`). They are replaced as Kubernetes
replaces the files of a volume: all in one step.

    cert-chain.pem -> ..data/cert-chain.pem     default.json: the Secret that names cert-chain.pem and key.pem
    key.pem        -> ..data/key.pem            ROOTCA.json:  the Secret that names root-cert.pem
    root-cert.pem  -> ..data/root-cert.pem
    ..data         -> ..2     the folder of the current certificate

A renewal writes a new folder, and moves a new link to the place of ``..data``. Envoy watches the folder for
such a move (``watched_directory``), and then reads the files of both secrets again.
"""

from __future__ import annotations

import json
import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any, Final

from protos.identity_files import CERTIFICATE_CHAIN_FILE, PRIVATE_KEY_FILE, TRUST_BUNDLE_FILE, secret_file
from protos.node import TRUST_BUNDLE_SECRET, WORKLOAD_CERTIFICATE_SECRET
from sidecar.errors import BootstrapError
from sidecar.identity.svid_pem import SvidPem

_CURRENT: Final = "..data"
_NEXT: Final = "..data_next"
_SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
# The group may read: with TPROXY, Envoy is root without capabilities, and only shares the group of the agent.
# A reader that has just opened one file of the previous certificate may still open the others.
_KEPT: Final = 2


class IdentityFolder:
    """`write` each new certificate. All methods raise `BootstrapError` if the folder cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folders: list[Path] = []
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._remove_earlier()
        except OSError as error:
            raise self._failed(error) from error
        self._numbers = count(_last_number(path) + 1)

    @property
    def written(self) -> bool:
        """Whether an Envoy can start: a certificate is there, of this process or of an earlier one."""
        return (self._path / _CURRENT / PRIVATE_KEY_FILE).exists()

    def write(self, svid: SvidPem) -> None:
        try:
            folder = self._path / f"..{next(self._numbers)}"
            folder.mkdir(mode=0o750)
            _write(folder / CERTIFICATE_CHAIN_FILE, svid.chain)
            _write(folder / PRIVATE_KEY_FILE, svid.key)
            _write(folder / TRUST_BUNDLE_FILE, svid.trust_bundle)
            self._write_secrets()
            self._swap(folder)
            self._folders.append(folder)
            while len(self._folders) > _KEPT:
                shutil.rmtree(self._folders.pop(0), ignore_errors=True)
        except OSError as error:
            raise self._failed(error) from error

    def _swap(self, folder: Path) -> None:
        link = self._path / _NEXT
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
        link.replace(self._path / _CURRENT)
        for name in (CERTIFICATE_CHAIN_FILE, PRIVATE_KEY_FILE, TRUST_BUNDLE_FILE):
            if not (self._path / name).is_symlink():
                (self._path / name).symlink_to(f"{_CURRENT}/{name}")

    def _write_secrets(self) -> None:
        """Before the certificate, whose presence lets Envoy start."""
        for name, secret in _secrets(self._path).items():
            document = json.dumps({"resources": [{"@type": _SECRET, "name": name, **secret}]})
            file = self._path / secret_file(name)
            if not file.exists():
                unfinished = file.with_name(f".{file.name}")
                unfinished.write_text(document)
                unfinished.replace(file)

    def _remove_earlier(self) -> None:
        """What an earlier process has left, except its last certificate, which Envoy may use."""
        current = os.path.realpath(self._path / _CURRENT)
        for folder in self._path.glob("..[0-9]*"):
            if str(folder.resolve()) == current:
                self._folders.append(folder)
            else:
                shutil.rmtree(folder, ignore_errors=True)

    def _failed(self, error: OSError) -> BootstrapError:
        return BootstrapError(f"--identity-dir {self._path}: cannot be written: {error.strerror or error}")


def _last_number(path: Path) -> int:
    numbers = (folder.name.removeprefix("..") for folder in path.glob("..[0-9]*"))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _secrets(path: Path) -> dict[str, dict[str, Any]]:
    watched = {"watched_directory": {"path": str(path)}}
    return {
        WORKLOAD_CERTIFICATE_SECRET: {
            "tls_certificate": {
                "certificate_chain": {"filename": str(path / CERTIFICATE_CHAIN_FILE)},
                "private_key": {"filename": str(path / PRIVATE_KEY_FILE)},
                **watched,
            }
        },
        TRUST_BUNDLE_SECRET: {
            "validation_context": {"trusted_ca": {"filename": str(path / TRUST_BUNDLE_FILE)}, **watched}
        },
    }


def _write(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    with open(descriptor, "wb") as opened:
        opened.write(content)
