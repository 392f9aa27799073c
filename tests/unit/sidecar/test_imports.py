"""Which packages a process of the sidecar loads: each costs memory in every pod."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Loaded when a configuration needs them.
_LATER = {"cryptography", "re2", "pycares", "yaml", "importlib.metadata"}

# For tests only.
_OTHER_HTTP2 = {"h2", "hpack", "hyperframe"}


@pytest.mark.parametrize(
    ("module", "excluded"),
    [
        ("sidecar.process.worker", {"grpc", "google", "envoy", "sidecar.xds", *_LATER}),
        ("sidecar.__main__", {"grpc", "envoy", *_OTHER_HTTP2, *_LATER}),
        ("sidecar.agent.__main__", {"grpc", "google", "envoy", *_OTHER_HTTP2, *_LATER}),
    ],
)
def test_process_loads_only_what_it_uses(module: str, excluded: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(loaded.stdout.split()) & excluded
