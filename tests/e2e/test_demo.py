from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_the_demo_does_what_it_says(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [
        sys.executable,
        "-m",
        "outrigger",
        "demo",
        "--plain",
        "--duration",
        "21",
        "--json",
        str(figures),
    ]
    demo = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    written = json.loads(figures.read_text())
    assert written["ok"]
    assert written["failed"] == 0
    assert [step["number"] for step in written["steps"]] == [1, 2, 3, 4, 5, 6, 7]
    assert "did you mean `route`?" in demo.stdout
