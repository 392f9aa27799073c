from __future__ import annotations

import subprocess
import sys


def test_who_has_a_folder_does_not_wait_for_the_client_of_kubernetes() -> None:
    listing = "import sys, controlplane.runtime; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    ).stdout
    assert {"kubernetes", "aiohttp"}.isdisjoint(modules.split())
