from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import child

ROOT = Path(__file__).parents[2]


def test_all_checks_of_the_demo_pass(tmp_path: Path) -> None:
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


def test_ratings_over_grpc_loses_no_call(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "outrigger", "demo", "--grpc", "--plain", "--duration", "7"]
    as_in_make_demo = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    demo = subprocess.run(
        [*command, "--json", str(figures)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=as_in_make_demo,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    hops = {hop["what"]: hop["ok"] for hop in json.loads(figures.read_text())["hops"]}
    assert hops["reviews: every gRPC call of ratings is OK"]
    assert hops["ratings: failed gRPC calls are retried"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_demo_leaves_no_processes(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "outrigger", "demo", "--plain"]
    with child(command, tmp_path / "log", {"TMPDIR": str(tmp_path)}) as demo:
        demo.wait_for(lambda: "1. all traffic" in demo.output, "the first step", deadline_s=60)
        assert running_below(tmp_path)
        demo.process.send_signal(number)
        assert demo.process.wait(30) == 130
    assert not running_below(tmp_path)
    assert not list(tmp_path.glob("outrigger-demo-*"))


def running_below(folder: Path) -> list[str]:
    """The processes whose command lines name something in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if f"{folder}/outrigger-demo-" in command:
            found.append(command)
    return found
