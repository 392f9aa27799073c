"""What the machine must have for pods to run on it."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

TOOLS = ("ip", "iptables-restore")


def require_node() -> None:
    """Skips the test where no node can be run, and fails it there in CI."""
    missing = missing_for_a_node()
    if not missing:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def missing_for_a_node() -> str:
    """In words; empty where nothing is."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a node needs network namespaces: run the tests as root on Linux"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"a node needs {' and '.join(absent)}: install iproute2 and iptables"
    return ""
