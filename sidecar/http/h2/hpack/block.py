"""The function that reads header blocks: in Cython where it was compiled (`_block`), else in Python."""

from __future__ import annotations

from sidecar.http.h2.hpack.block_python import read_block

__all__ = ["read_block"]
