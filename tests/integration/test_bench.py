"""`make bench` runs, and writes what it has measured. The times are not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.bench.load.generator import ROOT


def test_both_proxies_are_measured_in_each_round(tmp_path: Path) -> None:
    output = tmp_path / "build" / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--case", "http1", "--rounds", "2", "--seconds", "1"]
    command += ["--build", "python", "--without-others", "--output", str(output)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=100)
    assert ended.returncode == 0, ended.stderr
    contenders = json.loads(output.read_text())["cases"]["http1"]["contenders"]
    assert list(contenders) == ["Envoy", "python"]
    for figures in contenders.values():
        for name in ("cpu_us", "per_s", "p99_ms", "private_mib"):
            assert len(figures[name]) == 2
            assert min(figures[name]) > 0
    assert "http1" in ended.stdout
