from __future__ import annotations

import subprocess
import sys


def test_a_folder_source_does_not_import_the_kubernetes_client() -> None:
    listing = "import sys, controlplane.runtime; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    ).stdout
    assert {"kubernetes", "aiohttp"}.isdisjoint(modules.split())
