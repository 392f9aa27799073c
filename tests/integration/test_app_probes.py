"""The kubelet's probes, which the sidecar sends to the application: against real servers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin_client import Page, ask
from tests.support.envoy_config import bootstrap, changed, static_cluster
from tests.support.probed_application import ProbedApplication, grpc_health_server, probed_application
from tests.support.processes import free_port
from tests.support.running_sidecar import Document, RunningSidecar, running

POD = "127.0.0.9"
HEADERS = [{"name": "Host", "value": "web.example"}, {"name": "X-Key", "value": "a b"}]


def node(ip: str) -> tuple[str, str]:
    return "--service-node", f"sidecar~{ip}~web.default~default.svc.cluster.local"


def empty() -> Document:
    return changed(bootstrap(), "static_resources.listeners", [])


class Kubelet:
    """Asks one sidecar, which has the probers ``/app-health/<name>/livez``."""

    def __init__(self, sidecar: RunningSidecar, *, host: str = "127.0.0.1") -> None:
        self.sidecar = sidecar
        self._host = host

    def probe(self, name: str) -> Page:
        path = f"/app-health/{name}/livez"
        headers = {
            "user-agent": "kube-probe/1.37",
            "accept": "*/*",
            "authorization": "not for the application",
        }
        return ask(self.sidecar.port("metrics"), path, headers=headers, host=self._host)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProbedApplication]:
    with probed_application() as server:
        yield server


@pytest.fixture(scope="module")
def kubelet(app: ProbedApplication, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    folder = tmp_path_factory.mktemp("probes")
    port = app.server_port
    with ExitStack() as stack:
        https = stack.enter_context(probed_application(certificate_in=folder))
        https.pages["/"] = ("text/plain", b"")
        rpc = stack.enter_context(grpc_health_server())

        def http(path: str, **fields: Any) -> dict[str, Any]:
            return {"httpGet": {"path": path, "port": port, **fields}, "timeoutSeconds": 5}

        probers = {
            "ok": http("/status/200?full=1", httpHeaders=HEADERS),
            "plain": http("/status/204"),
            "down": http("/status/503"),
            "teapot": http("/status/418"),
            "followed": http("/to?/status/203"),
            "external": http("/to?http://example.com/"),
            "loop": http("/loop"),
            "around": http(f"/to?http://{POD}:{port}/around"),
            "endless": http("/endless"),
            "other-host": http("/status/200", host="localhost"),
            "https": {"httpGet": {"port": https.server_port, "scheme": "HTTPS"}},
            "not-https": {"httpGet": {"port": port, "scheme": "HTTPS"}},
            "tcp": {"tcpSocket": {"port": port}},
            "tcp-closed": {"tcpSocket": {"port": free_port()}},
            "http-closed": {"httpGet": {"port": free_port()}},
            "grpc": {"grpc": {"port": rpc}},
            "grpc-up": {"grpc": {"port": rpc, "service": "up"}},
            "grpc-down": {"grpc": {"port": rpc, "service": "down"}},
            "grpc-unknown": {"grpc": {"port": rpc, "service": "other"}},
            "grpc-closed": {"grpc": {"port": free_port()}},
            "grpc-http": {"grpc": {"port": port}},
            "hang": {"httpGet": {"path": "/hang", "port": port}, "timeoutSeconds": 0.2},
            "shared": http("/hang"),
        }
        text = json.dumps({f"/app-health/{name}/livez": prober for name, prober in probers.items()})
        flags = (*node(POD), "--app-probers", text)
        yield Kubelet(stack.enter_context(running(folder, empty(), *flags)))


@pytest.mark.parametrize(("name", "status"), [("ok", 200), ("plain", 204), ("down", 503), ("teapot", 418)])
def test_the_kubelet_gets_the_status_of_the_application_and_no_body(
    kubelet: Kubelet, name: str, status: int
) -> None:
    answer = kubelet.probe(name)
    assert (answer.status, answer.body) == (status, "")


def test_the_application_sees_the_probe_as_the_kubelet_would_send_it(
    kubelet: Kubelet, app: ProbedApplication
) -> None:
    app.received.clear()
    kubelet.probe("ok")
    kubelet.probe("plain")
    with_headers, plain = app.received
    assert with_headers.path == "/status/200?full=1"
    assert with_headers.headers == {
        "host": "web.example",
        "x-key": "a b",
        "user-agent": "kube-probe/1.37",
        "accept": "*/*",
    }
    assert plain.headers["host"] == f"{POD}:{app.server_port}"


def test_probes_come_from_the_address_that_interception_lets_pass(
    kubelet: Kubelet, app: ProbedApplication
) -> None:
    app.received.clear()
    kubelet.probe("ok")
    kubelet.probe("other-host")
    assert [probe.source for probe in app.received] == ["127.0.0.6", "127.0.0.6"]


@pytest.mark.parametrize(("name", "status"), [("followed", 203), ("external", 200), ("loop", 500)])
def test_redirects_are_followed_within_the_pod(kubelet: Kubelet, name: str, status: int) -> None:
    assert kubelet.probe(name).status == status


def test_redirects_end_after_ten_requests(kubelet: Kubelet, app: ProbedApplication) -> None:
    app.received.clear()
    app.pages["/around"] = ("text/plain", b"")
    assert kubelet.probe("around").status == 200
    assert [probe.path for probe in app.received][1:] == ["/around"]
    app.received.clear()
    assert "10 redirects" in kubelet.probe("loop").body
    assert len(app.received) == 10


def test_the_certificate_of_the_application_is_not_verified(kubelet: Kubelet) -> None:
    assert kubelet.probe("https").status == 200
    answer = kubelet.probe("not-https")
    assert answer.status == 500
    assert "TLS_error" in answer.body


@pytest.mark.parametrize("name", ["tcp-closed", "http-closed", "grpc-closed"])
def test_a_closed_port_is_a_500(kubelet: Kubelet, name: str) -> None:
    answer = kubelet.probe(name)
    assert (answer.status, answer.body) == (500, "cannot connect: Connection refused\n")


def test_an_open_port_is_enough_for_a_tcp_probe(kubelet: Kubelet) -> None:
    assert kubelet.probe("tcp").status == 200


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("grpc", 200, ""),
        ("grpc-up", 200, ""),
        ("grpc-down", 500, "the service 'down' is NOT_SERVING"),
        ("grpc-unknown", 500, "NOT_FOUND"),
        ("grpc-http", 500, "UNAVAILABLE"),
    ],
)
def test_grpc_health_checks(kubelet: Kubelet, name: str, status: int, reason: str) -> None:
    answer = kubelet.probe(name)
    assert answer.status == status
    assert reason in answer.body


def test_an_application_that_does_not_answer_fails_in_the_time_of_the_probe(kubelet: Kubelet) -> None:
    answer = kubelet.probe("hang")
    assert (answer.status, answer.body) == (500, "no answer within 0.2 s\n")


def test_only_the_first_part_of_a_body_is_read(kubelet: Kubelet) -> None:
    assert kubelet.probe("endless").status == 200


def test_requests_for_a_running_probe_share_it(kubelet: Kubelet, app: ProbedApplication) -> None:
    app.received.clear()
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(kubelet.probe, "shared") for _ in range(10)]
        kubelet.sidecar.process.wait_for(lambda: bool(app.received), "the application is asked")
        first = kubelet.probe("plain")
        app.release.set()
        statuses = {answer.result().status for answer in answers}
    assert first.status == 204, "other probes do not wait"
    assert statuses == {200}
    assert len([probe for probe in app.received if probe.path == "/hang"]) < 10


@pytest.mark.parametrize(
    "path", ["/app-health/ok/readyz", "/app-health/", "/app-health/../ok/livez", "/other"]
)
def test_other_paths_do_not_exist(kubelet: Kubelet, app: ProbedApplication, path: str) -> None:
    app.received.clear()
    assert ask(kubelet.sidecar.port("metrics"), path).status == 404
    assert app.received == []


def test_probes_work_before_the_sidecar_is_ready_and_while_it_drains(
    tmp_path: Path, app: ProbedApplication
) -> None:
    prober = {"httpGet": {"path": "/status/200", "port": app.server_port}}
    text = json.dumps({"/app-health/web/livez": prober})
    xds = static_cluster("xds", free_port()) | {"http2_protocol_options": {}}
    document = changed(empty(), "static_resources.clusters[2]", xds)
    document["dynamic_resources"] = _ads("xds")
    flags = (*node(POD), "--app-probers", text, "--drain-time-s", "60")
    with running(tmp_path, document, *flags) as sidecar:
        assert sidecar.ask("/healthz/ready", name="status").status == 503
        assert Kubelet(sidecar).probe("web").status == 200
        sidecar.process.process.send_signal(signal.SIGTERM)
        sidecar.wait_for_state("DRAINING")
        assert Kubelet(sidecar).probe("web").status == 200
        sidecar.end()


def _ads(cluster: str) -> Document:
    source = {"ads": {}, "resource_api_version": "V3"}
    service = {"envoy_grpc": {"cluster_name": cluster}}
    ads = {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [service]}
    return {"cds_config": source, "lds_config": source, "ads_config": ads}


def test_a_sidecar_of_an_ipv6_pod_needs_only_the_environment(tmp_path: Path) -> None:
    """As it is injected: no bootstrap file, and both families for the kubelet."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with probed_application("::1") as app:
        app.pages["/"] = ("text/plain", b"")
        prober = {"httpGet": {"port": app.server_port}}
        text = json.dumps({"/app-health/web/livez": prober})
        document = empty() | {"node": {"id": node("::1")[1], "cluster": "web.default"}}
        flags = ("--app-probers", text, "--config-yaml", json.dumps(document))
        with running(tmp_path, {}, *flags) as sidecar:
            sidecar.wait_for_state("LIVE")
            for host in ("127.0.0.1", "::1"):
                assert Kubelet(sidecar, host=host).probe("web").status == 200
                assert ask(sidecar.port("status"), "/healthz/ready", host=host).status == 200
        assert app.received[0].headers["host"] == f"[::1]:{app.server_port}"


@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        (
            "APP_PROBERS",
            '{"/app-health/a/livez": {"tcpSocket": {"port": "web"}}}',
            "'web' should be a port number",
        ),
        ("APP_PROBERS", "{", "--app-probers: invalid JSON"),
        ("APP_PROBERS", '{"/app-health/a/livez": {"tcpSocket": {"port": 1}}}', "need the pod's IP address"),
        ("PROMETHEUS_SCRAPE", '{"port": "x"}', "--prometheus-scrape: port: 'x' should be a port number"),
    ],
)
def test_invalid_settings_end_the_process_with_one_line(flag: str, value: str, reason: str) -> None:
    command = [sys.executable, "-m", "sidecar", "--config-yaml", "{}"]
    settings = {f"OUTRIGGER_{flag}": value, "OUTRIGGER_METRICS_PORT": "0", "OUTRIGGER_STATUS_PORT": "0"}
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **settings}, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert reason in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
