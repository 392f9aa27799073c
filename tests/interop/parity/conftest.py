"""The real Envoy and the sidecar, started from one static bootstrap file, ports apart, with one upstream."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template

import pytest

from tests.interop.parity.comparison import ProxyPair
from tests.support.envoy import envoy_command
from tests.support.processes import Child, child, free_port
from tests.support.recording_upstream import recording_upstream

LISTENERS = ("plain", "edge", "strict", "impatient")
BOOTSTRAP = Template(Path(__file__).with_name("bootstrap.yaml").read_text())


@pytest.fixture(scope="session")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyPair]:
    with proxy_pair(tmp_path_factory.mktemp("parity"), BOOTSTRAP, LISTENERS) as pair:
        yield pair


@contextmanager
def proxy_pair(folder: Path, bootstrap: Template, listeners: tuple[str, ...]) -> Iterator[ProxyPair]:
    """`listeners` are the names in the bootstrap file that are ports; one is ``edge``."""
    with ExitStack() as stack:
        upstream = stack.enter_context(recording_upstream("upstream", "second"))
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))  # and never listens
        shared = {**upstream.ports, "refusing": refusing.getsockname()[1]}
        ports: dict[str, dict[str, int]] = {}
        children: dict[str, Child] = {}
        for name in ("envoy", "sidecar"):
            ports[name] = {listener: free_port() for listener in (*listeners, "admin")}
            file = folder / f"{name}.yaml"
            file.write_text(bootstrap.substitute(shared, **ports[name]))
            children[name] = stack.enter_context(child(proxy_command(name, file), folder / f"{name}.log"))
        for name, process in children.items():
            for port in ports[name].values():
                process.wait_for_port(port)
        yield ProxyPair(ports["envoy"], ports["sidecar"], upstream)


def proxy_command(name: str, bootstrap: Path) -> list[str]:
    if name == "envoy":
        return envoy_command(bootstrap)
    options = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
    return [sys.executable, "-m", "sidecar", "-c", str(bootstrap), *options]
