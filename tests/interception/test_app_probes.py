"""The application's probes and metrics behind real rules, which redirect all other connections to the inbound
listener."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from controlplane.model.proxy import InterceptionMode
from tests.support.intercepted_pod import InterceptedPod
from tests.support.network_namespaces import APPLICATION, V4, V6, WAIT_S, NetworkNamespace, Owner, Side
from tests.support.probed_application import ProbedApplication, grpc_health_server, probed_application
from tests.support.processes import child

PROXY = Owner(0, 1337)
APP_PORT, METRICS_PORT = 8080, 15020


class Kubelet:
    """Asks from outside the pod."""

    def __init__(self, outside: NetworkNamespace, side: Side, application: ProbedApplication) -> None:
        self._outside = outside
        self.side = side
        self.application = application

    def connect(self, port: int, *, timeout_s: float = WAIT_S) -> socket.socket:
        client = self._outside.socket(self.side, socket.SOCK_STREAM, APPLICATION)
        client.settimeout(timeout_s)
        try:
            client.connect((self.side.pod, port))
        except OSError:
            client.close()
            raise
        return client

    def get(self, path: str) -> tuple[int, str]:
        with self.connect(METRICS_PORT) as client:
            connection = HTTPConnection("pod")
            connection.sock = client
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()


@pytest.fixture(
    scope="module", params=[InterceptionMode.REDIRECT, InterceptionMode.TPROXY], ids=lambda mode: mode.value
)
def mode(request: pytest.FixtureRequest) -> InterceptionMode:
    found: InterceptionMode = request.param
    return found


@pytest.fixture(scope="module", params=[V4, V6], ids=["v4", "v6"])
def kubelet(
    namespaces: tuple[NetworkNamespace, NetworkNamespace],
    mode: InterceptionMode,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kubelet]:
    side: Side = request.param
    pod, outside = namespaces
    folder = tmp_path_factory.mktemp("sidecar")
    with ExitStack() as stack:
        rules = stack.enter_context(InterceptedPod(pod, outside, side, "nft"))
        assert rules.run("--mode", mode.value, "--proxy-uid", "") == 0
        with pod.entered():
            application = stack.enter_context(probed_application(side.pod, port=APP_PORT))
            grpc_port = stack.enter_context(grpc_health_server(side.pod))
        application.pages["/metrics"] = ("text/plain", b"app_orders_total 7\n")
        probers = {
            "/app-health/web/livez": {"httpGet": {"path": "/status/200", "port": APP_PORT}},
            "/app-health/web/readyz": {"tcpSocket": {"port": APP_PORT}},
            "/app-health/web/startupz": {"grpc": {"port": grpc_port}},
        }
        node = f"sidecar~{side.pod}~web.default~default.svc.cluster.local"
        command = [sys.executable, "-m", "sidecar", "--config-yaml", json.dumps({"node": {"id": node}})]
        command += ["--app-probers", json.dumps(probers), "--drain-time-s", "0"]
        command += ["--prometheus-scrape", json.dumps({"port": str(APP_PORT)})]
        with pod.entered(PROXY):
            process = stack.enter_context(child(command, folder / "log"))
        found = Kubelet(outside, side, application)
        process.wait_for(lambda: _listens(found), "the metrics port is open")
        yield found


def _listens(kubelet: Kubelet) -> bool:
    try:
        return kubelet.get("/metrics")[0] == 200
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize("probe", ["livez", "readyz", "startupz"])
def test_a_probe_reaches_the_application(kubelet: Kubelet, probe: str) -> None:
    assert kubelet.get(f"/app-health/web/{probe}") == (200, "")


def test_without_the_sidecar_the_probe_is_intercepted(kubelet: Kubelet) -> None:
    """There is no inbound listener here: REDIRECT refuses, and TPROXY drops."""
    with pytest.raises(OSError, match=r"refused|timed out"):
        kubelet.connect(APP_PORT, timeout_s=0.3)


def test_metrics_are_fetched_from_the_application(kubelet: Kubelet) -> None:
    kubelet.application.received.clear()
    status, page = kubelet.get("/stats/prometheus")
    assert status == 200
    assert page.endswith("app_orders_total 7\n")
    assert [scrape.source for scrape in kubelet.application.received] == [kubelet.side.inbound_source]
