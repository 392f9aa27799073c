"""An address of this machine that is not loopback."""

from __future__ import annotations

import socket

import pytest


def own_address() -> str:
    """The address from which this machine would call others. Skips the test where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unconnected:
        try:
            unconnected.connect(("198.51.100.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = unconnected.getsockname()[0]
        return address
