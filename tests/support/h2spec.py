"""h2spec, the conformance tests of HTTP/2 (https://github.com/summerwind/h2spec)."""

from __future__ import annotations

from pathlib import Path

from tests.support.go_binary import GoBinary

H2SPEC = GoBinary(name="h2spec", sources=Path(__file__).parents[1] / "interop" / "h2spec")
