"""A server and a client of Go's net/http over HTTP/2."""

from __future__ import annotations

from pathlib import Path

from tests.support.go_binary import GoBinary

NETHTTP = GoBinary(name="nethttp", sources=Path(__file__).parents[1] / "interop" / "nethttp")
