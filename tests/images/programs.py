"""The programs of each image, with the flags, volumes and capabilities of the injected pod and of the chart.
Each function returns how long its programs took until they were ready or had ended."""

from __future__ import annotations

import http.client
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from tests.bench.documents import bootstrap
from tests.images.runner import WAIT_S, ProgramError, Runner, Running
from tests.support.network_namespaces import NetworkNamespace

Times = dict[str, float]  # seconds by program

STATE: Final = "/var/lib/outrigger"
KUBECONFIG: Final = "/etc/outrigger/kubeconfig"
_INTERCEPT: Final = ("python", "-m", "sidecar.intercept")
_AS_INIT: Final[dict[str, Any]] = {"user": "0:0", "capabilities": ("net_admin", "net_raw")}
# Prints the modules without a compiled form, or with one that Python would compare with the source (PEP 552).
UNCOMPILED: Final = """
import importlib.util, pathlib, sys
for folder in sys.path[1:]:
    for source in pathlib.Path(folder).rglob("*.py"):
        compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
        header = compiled.read_bytes()[:8] if compiled.exists() else b""
        if header != importlib.util.MAGIC_NUMBER + bytes([1, 0, 0, 0]):
            print(source)
"""
# In one process, because each start takes a second.
EACH_HELP: Final = """
import typer.main
from outrigger.__main__ import app
outrigger = typer.main.get_command(app)
for name in outrigger.commands:
    outrigger.main([name, "--help"], standalone_mode=False)
"""


def interpreter(runner: Runner) -> Times:
    times = {"python -c pass": _timed(lambda: runner.run("python", "-c", "pass"))}
    if uncompiled := runner.run("python", "-c", UNCOMPILED):
        raise ProgramError(f"not compiled ahead:\n{uncompiled}")
    return times


def sidecar(runner: Runner) -> Times:
    """With a static bootstrap, until it is ready; then it drains, as before a pod ends."""
    document = json.dumps(bootstrap(8080, 15000, 9000))
    program = [*runner.image.entrypoint, "--config-yaml", document, "--cache-dir", STATE]
    program += ["--metrics-port=15020", "--drain-time-s=1"]
    with NetworkNamespace() as pod, _owned_folder(runner) as state, pod.entered():
        start = time.monotonic()
        with runner.started(*program, volumes={STATE: state}) as running:
            ready = _until_answered(running, 15021, "/healthz/ready", start)
            drained = _timed(lambda: runner.run("python", "-m", "sidecar.drain"))
            running.stop(runner.image.stop_signal)
    agent = _timed(lambda: runner.run("python", "-m", "sidecar.agent", "--help"))
    return {
        "python -m sidecar": ready,
        "python -m sidecar.drain": drained,
        "python -m sidecar.agent --help": agent,
    }


def interception(runner: Runner) -> Times:
    """The init container's program with both variants of iptables, and the rules that it leaves."""
    times = {}
    with NetworkNamespace() as pod, pod.entered():
        printed = runner.run(*_INTERCEPT, "--dry-run", **_AS_INIT)
        if "-A OUTRIGGER" not in printed:
            raise ProgramError(f"--dry-run prints no rules:\n{printed}")
        for variant in ("nft", "legacy"):
            flags = ("--iptables", variant)
            start = time.monotonic()
            runner.run(*_INTERCEPT, *flags, **_AS_INIT)
            times[f"python -m sidecar.intercept ({variant})"] = time.monotonic() - start
            saved = runner.run(f"iptables-{variant}-save", **_AS_INIT, XTABLES_LOCKFILE="/dev/null")
            if "OUTRIGGER" not in saved:
                raise ProgramError(f"no rules of iptables-{variant}:\n{saved}")
            runner.run(*_INTERCEPT, *flags, "--clean", **_AS_INIT)
    return times


def controlplane(runner: Runner) -> Times:
    """With the flags of the chart, until it is alive without an API server; then with a folder, until it is
    ready."""
    chart = ("--source=kubernetes", "--bind-address=0.0.0.0", "--xds-port=off", f"--kubeconfig={KUBECONFIG}")
    folder = ("--source=files", f"--folder={STATE}", f"--state-dir={STATE}/keys")
    times = {}
    with _owned_folder(runner) as state, NetworkNamespace() as pod, pod.entered():
        kubeconfig = state / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig()))
        kubeconfig.chmod(0o644)
        for flags, path, volumes in (
            (chart, "/healthz", {KUBECONFIG: kubeconfig}),
            (folder, "/ready", {STATE: state}),
        ):
            start = time.monotonic()
            with runner.started(*runner.image.entrypoint, *flags, volumes=volumes) as running:
                name = f"python -m controlplane {flags[0]}"
                times[name] = _until_answered(running, 8080, path, start)
                running.stop(runner.image.stop_signal)
    return times


def command(runner: Runner) -> Times:
    """The help of each command, and a bootstrap file."""
    (program,) = runner.image.entrypoint
    times = {"outrigger --help": _timed(lambda: runner.run(program, "--help"))}
    runner.run("python", "-c", EACH_HELP)
    made = yaml.safe_load(runner.run(program, "bootstrap", "--name", "web", "--xds-address", "plane:15012"))
    if made["node"]["id"] != "sidecar~127.0.0.1~web.default~default.svc.cluster.local":
        raise ProgramError(f"outrigger bootstrap: {made}")
    return times


def _kubeconfig() -> dict[str, object]:
    """Nothing listens on the port."""
    context = {"name": "test", "context": {"cluster": "test", "user": "test"}}
    return {
        "clusters": [{"name": "test", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "test", "user": {"token": "test"}}],
        "contexts": [context],
        "current-context": "test",
    }


@contextmanager
def _owned_folder(runner: Runner) -> Iterator[Path]:
    """A volume that belongs to the user of the image."""
    user, group = runner.image.user.split(":")
    with tempfile.TemporaryDirectory(dir=runner.scratch) as folder:
        os.chown(folder, int(user), int(group))
        yield Path(folder)


def _timed(run: Callable[[], object]) -> float:
    start = time.monotonic()
    run()
    return time.monotonic() - start


def _until_answered(running: Running, port: int, path: str, start: float) -> float:
    """The seconds from the start until the path is answered with 200."""
    while running.process.poll() is None and time.monotonic() < start + WAIT_S:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return time.monotonic() - start
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.01)
    raise running.failed(f"{path} on port {port} is not answered with 200")
