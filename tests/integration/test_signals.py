"""Signals by which other programs reload files may arrive at any time, and end neither process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.control_plane import control_plane
from tests.support.envoy_config import address
from tests.support.processes import Child, child, free_port

SIGNALS = (signal.SIGHUP, signal.SIGUSR1)

SENDS_ITSELF_SIGNALS = """
import os, runpy, signal, sys

module, imported = sys.argv[1:]

class AtFirstImport:
    def find_spec(self, name, path=None, target=None):
        if name == imported:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGUSR1)

sys.meta_path.insert(0, AtFirstImport())
sys.argv[1:] = ["--help"]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""

SERVES = """
import asyncio, os, signal, sys

from sidecar.bootstrap import load, parse_arguments
from sidecar.process.serve import serve

NUMBERS = (signal.SIGHUP, signal.SIGUSR1)
before = [signal.getsignal(number) for number in NUMBERS]

async def serve_and_stop():
    settings = parse_arguments(sys.argv[1:], {})
    serving = asyncio.create_task(serve(settings, load(settings)))
    while [signal.getsignal(number) for number in NUMBERS] == before:
        await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGINT)
    await serving

asyncio.run(serve_and_stop())
assert [signal.getsignal(number) for number in NUMBERS] == before
"""


@pytest.mark.parametrize(
    ("module", "imported"), [("sidecar", "uvloop"), ("controlplane", "controlplane.settings")]
)
def test_a_process_that_starts_takes_them(module: str, imported: str) -> None:
    """Its imports take most of the time of its start."""
    command = [sys.executable, "-c", SENDS_ITSELF_SIGNALS, module, imported]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60, check=False).returncode == 0


def test_a_sidecar_that_ends_takes_them(tmp_path: Path) -> None:
    admin = free_port()
    document = {"admin": {"address": address(admin)}, "node": {"id": "a", "cluster": "b"}}
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(document))
    options = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
    with child([sys.executable, "-m", "sidecar", "-c", str(file), *options], tmp_path / "stderr") as process:
        process.wait_for_port(admin)
        assert exit_code_under_signals(process) == 0


def test_a_control_plane_that_ends_takes_them(tmp_path: Path) -> None:
    with control_plane(tmp_path / "mesh", tmp_path / "state") as plane:
        assert exit_code_under_signals(plane.process) == 0


def exit_code_under_signals(process: Child) -> int:
    process.process.terminate()
    while process.process.poll() is None:
        for number in SIGNALS:
            process.process.send_signal(number)
        time.sleep(0.0005)  # else the process does nothing but to handle them
    return process.process.returncode


def test_an_embedded_server_restores_the_signal_handlers(tmp_path: Path) -> None:
    """Signals that stayed ignored would be ignored by each program that the process starts later."""
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps({"node": {"id": "a", "cluster": "b"}}))
    options = ["-c", str(file), "--status-port", "off", "--metrics-port", "off"]
    ended = subprocess.run(
        [sys.executable, "-c", SERVES, *options], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
