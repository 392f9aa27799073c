"""The files of certificates, replaced while the sidecars run: leaves, and in three steps the root."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from cryptography.x509 import UniformResourceIdentifier

from tests.support.certificates import TestAuthority, leaf_pem

NODES = ("outbound", "inbound")


class CertificateFiles:
    """One file with certificate and key for each node, and one with the trusted roots for both."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._signer = self._new_root()
        self._next: TestAuthority | None = None
        self._step = 0
        self._write_roots(self._signer)
        self._write_leaves()

    def rotate(self) -> str:
        """The next step; returns what it is. A sidecar must have read the files before the one after it."""
        step, self._step = self._step, (self._step + 1) % 4
        if step == 0:
            self._write_leaves()
            return "new leaf certificates"
        if step == 1:
            self._next = self._new_root()
            self._write_roots(self._signer, self._next)
            return "a second root is trusted"
        assert self._next is not None
        if step == 2:
            self._signer, self._next = self._next, self._signer
            self._write_leaves()
            return "new leaf certificates of the second root"
        self._write_roots(self._signer)
        return "the first root is not trusted any more"

    def tls(self, node: str) -> dict[str, Any]:
        file = {"filename": str(self._leaf(node))}
        return {
            "tls_certificates": [{"certificate_chain": file, "private_key": file}],
            "validation_context": {"trusted_ca": {"filename": str(self._folder / "roots.pem")}},
        }

    def _leaf(self, node: str) -> Path:
        return self._folder / f"{node}.pem"

    def _new_root(self) -> TestAuthority:
        now_s = time.time()
        return TestAuthority(f"soak {now_s}", not_before=now_s - 3600, not_after=now_s + 7 * 24 * 3600)

    def _write_roots(self, *roots: TestAuthority) -> None:
        self._replace(self._folder / "roots.pem", b"".join(root.certificate_pem for root in roots))

    def _write_leaves(self) -> None:
        for node in NODES:
            name = UniformResourceIdentifier(f"spiffe://cluster.local/ns/default/sa/{node}")
            self._replace(self._leaf(node), leaf_pem(self._signer, [name]))

    def _replace(self, path: Path, content: bytes) -> None:
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(content)
        new.replace(path)
