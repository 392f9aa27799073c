"""The programs that Kubernetes runs in the container of the sidecar: `sidecar.drain` and `sidecar.wait`."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.admin_client import ask
from tests.support.backends import backend
from tests.support.envoy_config import bootstrap, changed, http_connection_manager, listener, static_cluster
from tests.support.probed_application import probed_application
from tests.support.processes import free_port
from tests.support.running_sidecar import Document, running


def hook(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"sidecar.{module}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def web(app: int, *, inbound: int, outbound: int) -> Document:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app"}}
    routes = {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}
    listeners = [
        {
            **listener(direction, http_connection_manager(route_config=routes), port),
            "traffic_direction": direction,
        }
        for direction, port in (("INBOUND", inbound), ("OUTBOUND", outbound))
    ]
    document = changed(bootstrap(), "static_resources.clusters", [static_cluster("app", app)])
    return changed(document, "static_resources.listeners", listeners)


@pytest.fixture
def app() -> Iterator[int]:
    with backend("v1") as server:
        yield server.server_port


def test_the_hook_drains_the_inbound_side_and_returns(tmp_path: Path, app: int) -> None:
    inbound, outbound = free_port(), free_port()
    with running(tmp_path, web(app, inbound=inbound, outbound=outbound), "--drain-time-s", "60") as sidecar:
        sidecar.wait_for_state("LIVE")
        with (
            closing(http.client.HTTPConnection("127.0.0.1", inbound, timeout=10)) as caller,
            closing(http.client.HTTPConnection("127.0.0.1", outbound, timeout=10)) as application,
        ):
            assert [_connection_header(each) for each in (caller, application)] == [None, None]
            drained = hook("drain", "--admin-port", str(sidecar.port("admin")))
            assert (drained.returncode, drained.stderr) == (0, "")
            assert [_connection_header(each) for each in (caller, application)] == ["close", None]
            assert ask(inbound, "/").status == 200, "others learn late that the pod ends"
            assert sidecar.ask("/ready").status == 200
            sidecar.process.process.send_signal(signal.SIGTERM)
            sidecar.wait_for_state("DRAINING")
            assert _connection_header(application) == "close"
        assert sidecar.process.process.wait(30) == 0
        assert "drained, with 0 connections left" in sidecar.process.output


def _connection_header(connection: http.client.HTTPConnection) -> str | None:
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    return response.getheader("connection")


def test_a_hook_that_cannot_drain_tells_the_reason() -> None:
    with probed_application() as other:
        failed = hook("drain", f"--admin-port={other.server_port}")
    assert failed.returncode == 1
    assert failed.stderr == "sidecar.drain: the proxy cannot be drained: it answered with status 501\n"


def test_a_proxy_that_has_ended_needs_no_drain() -> None:
    """The hook of an Envoy's agent runs while Envoy ends, which must not become an Event of a failed hook."""
    done = hook("drain", f"--admin-port={free_port()}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_application_waits_until_the_sidecar_is_ready(tmp_path: Path) -> None:
    port = free_port()
    refused = hook("wait", "--timeout", "0", "--status-port", str(port))
    assert refused.returncode == 1
    assert "the proxy is not ready after 0 s" in refused.stderr
    waiting = subprocess.Popen([sys.executable, "-m", "sidecar.wait", "--status-port", str(port)])
    assert waiting.poll() is None
    with running(tmp_path, bootstrap(), "--status-port", str(port)):
        assert waiting.wait(30) == 0


@pytest.mark.parametrize("module", ["drain", "wait"])
def test_a_hook_imports_little(module: str) -> None:
    """It takes a few milliseconds more than Python itself."""
    script = f"import sys; import sidecar.{module}; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True)
    modules = set(loaded.stdout.split())
    assert {name for name in modules if name.startswith("sidecar.")} == {
        f"sidecar.{module}",
        "sidecar.loopback",
    }
    assert not modules & {"asyncio", "argparse", "http", "ssl", "logging", "json", "typing"}


def test_a_job_ends_its_sidecar(tmp_path: Path) -> None:
    with running(tmp_path, bootstrap()) as sidecar:
        assert sidecar.ask("/quitquitquit", name="metrics").status == 405
        assert sidecar.ask("/quitquitquit", "POST", name="metrics", origin="http://web.example").status == 403
        assert sidecar.ask("/quitquitquit", "POST", name="metrics").status == 200
        assert sidecar.process.process.wait(30) == 0
