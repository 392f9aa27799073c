"""The programs of each image, with the flags, volumes and capabilities of the injected pod and of the chart.
Each function returns figures of its programs: how long they took until they were ready or had ended, and the
memory of the sidecar."""

from __future__ import annotations

import json
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from tests.bench.documents import bootstrap
from tests.bench.proxies import accounting
from tests.images.runner import WAIT_S, ProgramError, Runner, Running
from tests.support.builds import byte_loops, compiled_modules
from tests.support.network_namespaces import NetworkNamespace

Figures = dict[str, str]  # with their units, by name

STATE: Final = "/var/lib/outrigger"
KUBECONFIG: Final = "/etc/outrigger/kubeconfig"
_INTERCEPT: Final = ("python", "-m", "sidecar.intercept")
_AS_INIT: Final[dict[str, Any]] = {"user": "0:0", "capabilities": ("net_admin", "net_raw")}
# Prints the modules without bytecode, or with one that Python would compare with the source (PEP 552).
WITHOUT_BYTECODE: Final = """
import importlib.util, pathlib, sys
for folder in sys.path[1:]:
    for source in pathlib.Path(folder).rglob("*.py"):
        compiled = pathlib.Path(importlib.util.cache_from_source(str(source)))
        header = compiled.read_bytes()[:8] if compiled.exists() else b""
        if header != importlib.util.MAGIC_NUMBER + bytes([1, 0, 0, 0]):
            print(source)
"""
# Prints those of the named modules that are read from their sources.
UNCOMPILED: Final = """
import importlib, sys
for name in sys.argv[1:]:
    if not importlib.import_module(name).__file__.endswith(".so"):
        print(name)
"""
# In one process, because each start takes a second.
EACH_HELP: Final = """
import typer.main
from outrigger.__main__ import app
outrigger = typer.main.get_command(app)
for name in outrigger.commands:
    outrigger.main([name, "--help"], standalone_mode=False)
"""


def interpreter(runner: Runner) -> Figures:
    times = {"python -c pass": _timed(lambda: runner.run("python", "-c", "pass"))}
    if found := runner.run("python", "-c", WITHOUT_BYTECODE):
        raise ProgramError(f"without bytecode:\n{found}")
    return times


def data_path(runner: Runner) -> Figures:
    """Each module that `setup.py` compiles is imported from its library."""
    modules = [*compiled_modules(), *byte_loops()]
    if found := runner.run("python", "-c", UNCOMPILED, *modules):
        raise ProgramError(f"not compiled:\n{found}")
    return {"compiled modules": str(len(modules))}


def sidecar(runner: Runner) -> Figures:
    """With a static bootstrap, until it is ready; then it drains, as before a pod ends."""
    document = json.dumps(bootstrap(8080, 15000, 9000))
    program = [*runner.image.entrypoint, "--config-yaml", document, "--cache-dir", STATE]
    program += ["--metrics-port=15020", "--drain-time-s=1"]
    with NetworkNamespace() as pod, _owned_folder(runner) as state, pod.entered():
        start = time.monotonic()
        with runner.started(*program, volumes={STATE: state}) as running:
            ready = _until_answered(running, 15021, "/healthz/ready", start)
            memory = accounting.memory(running.children())
            build = json.loads(_answer(15000, "/server_info"))["version"]
            if "/compiled/" not in build:
                raise ProgramError(f"/server_info: {build}")
            drained = _timed(lambda: runner.run("python", "-m", "sidecar.drain"))
            running.stop(runner.image.stop_signal)
    agent = _timed(lambda: runner.run("python", "-m", "sidecar.agent", "--help"))
    return {
        "python -m sidecar": ready,
        "python -m sidecar, its private memory": _megabytes(memory.private_bytes),
        "python -m sidecar, its proportional memory": _megabytes(memory.proportional_bytes),
        "python -m sidecar.drain": drained,
        "python -m sidecar.agent --help": agent,
    }


def interception(runner: Runner) -> Figures:
    """The init container's program with both variants of iptables, and the rules that it leaves."""
    times: Figures = {}
    with NetworkNamespace() as pod, pod.entered():
        printed = runner.run(*_INTERCEPT, "--dry-run", **_AS_INIT)
        if "-A OUTRIGGER" not in printed:
            raise ProgramError(f"--dry-run prints no rules:\n{printed}")
        for variant in ("nft", "legacy"):
            flags = ("--iptables", variant)
            start = time.monotonic()
            runner.run(*_INTERCEPT, *flags, **_AS_INIT)
            times[f"python -m sidecar.intercept ({variant})"] = _since(start)
            saved = runner.run(f"iptables-{variant}-save", **_AS_INIT, XTABLES_LOCKFILE="/dev/null")
            if "OUTRIGGER" not in saved:
                raise ProgramError(f"no rules of iptables-{variant}:\n{saved}")
            runner.run(*_INTERCEPT, *flags, "--clean", **_AS_INIT)
    return times


def controlplane(runner: Runner) -> Figures:
    """With the flags of the chart, until it is alive without an API server; then with a folder, until it is
    ready."""
    chart = ("--source=kubernetes", "--bind-address=0.0.0.0", "--xds-port=off", f"--kubeconfig={KUBECONFIG}")
    folder = ("--source=files", f"--folder={STATE}", f"--state-dir={STATE}/keys")
    times: Figures = {}
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


def command(runner: Runner) -> Figures:
    """The help of each command, and a bootstrap file."""
    (program,) = runner.image.entrypoint
    times = {"outrigger --help": _timed(lambda: runner.run(program, "--help"))}
    runner.run("python", "-c", EACH_HELP)
    build = runner.run(program, "version")
    if "/compiled" not in build:
        raise ProgramError(f"outrigger version: {build}")
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


def _timed(run: Callable[[], object]) -> str:
    start = time.monotonic()
    run()
    return _since(start)


def _since(start: float) -> str:
    return f"{time.monotonic() - start:.2f} s"


def _megabytes(count: int) -> str:
    return f"{count / 1_000_000:.0f} MB"


def _until_answered(running: Running, port: int, path: str, start: float) -> str:
    """The time from the start until the path is answered with 200."""
    while running.process.poll() is None and time.monotonic() < start + WAIT_S:
        try:
            _answer(port, path)
        except OSError:
            time.sleep(0.01)
        else:
            return _since(start)
    raise running.failed(f"{path} on port {port} is not answered with 200")


def _answer(port: int, path: str) -> bytes:
    """Raises `OSError` if it is not 200."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1) as response:
        return response.read()
