"""The control plane from the operator's point of view: the process, its ports, its folder and its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3.ads_pb2_grpc import AggregatedDiscoveryServiceStub
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from protos import type_urls
from tests.support.certificates import TestAuthority
from tests.support.control_plane import (
    FREE_PORTS,
    RunningControlPlane,
    control_plane,
    create_token,
    outrigger,
)
from tests.support.processes import child, free_port

NODE_ID = "sidecar~127.0.0.1~productpage.bookinfo~bookinfo.svc.cluster.local"

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: bookinfo}
spec:
  selector: {app: %s}
  ports: [{name: http, port: 9080, targetPort: 9080}]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningControlPlane]:
    folder = tmp_path_factory.mktemp("mesh")
    (folder / "reviews.yaml").write_text(SERVICE % ("reviews", "reviews"))
    with control_plane(folder, tmp_path_factory.mktemp("state"), "--log-format", "json") as plane:
        yield plane


class AdsStream:
    """A proxy's stream with gRPC's synchronous client."""

    def __init__(self, channel: grpc.Channel, *metadata: tuple[str, str]) -> None:
        self._requests: list[DiscoveryRequest] = []
        self._channel = channel
        self._metadata = metadata
        self._called = threading.Event()

    def ask(self, type_url: str) -> DiscoveryResponse:
        request = DiscoveryRequest(node=Node(id=NODE_ID), type_url=type_url)
        stub = AggregatedDiscoveryServiceStub(self._channel)
        self.call = stub.StreamAggregatedResources(
            self._stay_open(request), metadata=self._metadata, timeout=20
        )
        self._called.set()
        response: DiscoveryResponse = next(self.call)
        return response

    def _stay_open(self, request: DiscoveryRequest) -> Iterator[DiscoveryRequest]:
        """A thread of gRPC reads this, possibly before the test continues."""
        yield request
        self._called.wait()
        while self.call.is_active():
            time.sleep(0.01)


def tls_channel(plane: RunningControlPlane) -> grpc.Channel:
    return grpc.secure_channel(
        plane.xds_tls, grpc.ssl_channel_credentials(plane.root_certificate.read_bytes())
    )


def get(address: str, path: str) -> Any:
    answer = httpx.get(f"http://{address}{path}", trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_it_is_healthy_and_ready(running: RunningControlPlane) -> None:
    for path, text in (("/healthz", "ok\n"), ("/ready", "ready\n")):
        assert httpx.get(f"http://{running.debug}{path}", trust_env=False).text == text


def test_metrics_have_istiods_names(running: RunningControlPlane) -> None:
    page = httpx.get(f"http://{running.metrics}/metrics", trust_env=False).text
    assert "\ncitadel_server_csr_count " in page
    assert "\ncitadel_server_root_cert_expiry_timestamp " in page
    assert "\npilot_services 1.0" in page
    assert "# TYPE pilot_xds_pushes counter" in page
    assert "\nprocess_resident_memory_bytes " in page


def test_a_proxy_follows_in_plaintext_and_is_seen_in_syncz(running: RunningControlPlane) -> None:
    with grpc.insecure_channel(running.xds) as channel:
        stream = AdsStream(channel)
        clusters = stream.ask(type_urls.CLUSTER)
        names = {x.type_url for x in clusters.resources}
        assert names == {type_urls.CLUSTER}
        [proxy] = get(running.debug, "/debug/syncz")
        assert proxy["proxy"] == NODE_ID
        assert proxy["types"]["cds"]["sent_version"] == clusters.version_info
        dump = get(running.debug, f"/debug/config_dump?proxy={NODE_ID}")
        assert "outbound|9080||reviews.bookinfo.svc.cluster.local" in str(dump)
        stream.call.cancel()
    stranger = httpx.get(f"http://{running.debug}/debug/config_dump?proxy=stranger", trust_env=False)
    assert stranger.status_code == 404
    assert "no proxy 'stranger' is connected" in stranger.json()["detail"]


def test_over_tls_a_proxy_must_authenticate(running: RunningControlPlane) -> None:
    def ask(*metadata: tuple[str, str]) -> DiscoveryResponse:
        with tls_channel(running) as channel:
            return AdsStream(channel, *metadata).ask(type_urls.CLUSTER)

    token = create_token(running.state_dir, "bookinfo", "productpage")
    assert ask(("authorization", f"Bearer {token}")).resources
    stranger = create_token(running.state_dir, "elsewhere", "productpage")
    for metadata, status in (
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer a.b.c"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", f"Bearer {stranger}"),), grpc.StatusCode.PERMISSION_DENIED),
    ):
        with pytest.raises(grpc.RpcError) as refusal:
            ask(*metadata)
        assert refusal.value.code() is status


def test_certificates_are_not_signed_in_plaintext(running: RunningControlPlane) -> None:
    from protos.ca_pb2 import CreateCertificateRequest
    from protos.ca_pb2_grpc import CertificateServiceStub

    with grpc.insecure_channel(running.xds) as channel, pytest.raises(grpc.RpcError) as refusal:
        CertificateServiceStub(channel).CreateCertificate(CreateCertificateRequest(), timeout=10)
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_operator_gets_a_certificate_for_a_workload(running: RunningControlPlane, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(create_token(running.state_dir, "bookinfo", "reviews") + "\n")
    arguments = ["--ca-address", running.xds_tls, "--ca-cert", running.root_certificate]
    arguments += ["--token-file", token_file, "--out", tmp_path / "identity", "--lifetime", "1h"]

    requested = outrigger("certificate", "request", *arguments)

    assert requested.returncode == 0, requested.stderr
    identity = tmp_path / "identity"
    leaf = x509.load_pem_x509_certificate((identity / "cert-chain.pem").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://cluster.local/ns/bookinfo/sa/reviews"
    ]
    assert leaf.not_valid_after_utc.timestamp() - time.time() < 3601
    assert stat.S_IMODE((identity / "key.pem").stat().st_mode) == 0o600
    assert (identity / "root-cert.pem").read_bytes() == running.root_certificate.read_bytes()


def test_a_wrong_token_is_one_line_and_code_1(running: RunningControlPlane, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("not a token")
    arguments = ["--ca-address", running.xds_tls, "--ca-cert", running.root_certificate]
    requested = outrigger("certificate", "request", *arguments, "--token-file", token_file, "--out", tmp_path)
    assert requested.returncode == 1
    assert requested.stderr.startswith(
        f"outrigger: {running.xds_tls} did not issue a certificate: UNAUTHENTICATED: the token"
    )
    assert requested.stderr.count("\n") == 1


def test_a_change_of_the_folder_is_pushed_and_a_broken_file_is_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "mesh"
    with control_plane(folder, tmp_path / "state") as plane:
        assert get(plane.debug, "/debug/registryz") == []
        (folder / "reviews.yaml").write_text(SERVICE % ("reviews", "reviews"))

        def serves(name: str) -> bool:
            return name in {service["name"] for service in get(plane.debug, "/debug/registryz")}

        plane.process.wait_for(lambda: serves("reviews"), "reviews is served")
        (folder / "reviews.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: [")
        (folder / "ratings.yaml").write_text(SERVICE % ("ratings", "ratings"))
        plane.process.wait_for(lambda: serves("ratings"), "ratings is served")
        assert serves("reviews"), "the last good version stays in force"
        reasons = [
            reason
            for resource in get(plane.debug, "/debug/statusz")["resources"]
            for reason in resource["reasons"]
        ]
        assert reasons


def test_sigterm_ends_it_soon_with_code_0_although_proxies_are_connected(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with (
            control_plane(tmp_path / "mesh", tmp_path / "state") as plane,
            grpc.insecure_channel(plane.xds) as channel,
        ):
            stream = AdsStream(channel)
            stream.ask(type_urls.CLUSTER)
            plane.process.process.send_signal(number)
            assert plane.process.process.wait(10) == 0
            with pytest.raises(grpc.RpcError) as end:
                next(stream.call)
            assert end.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "Traceback" not in plane.process.output


def test_it_is_alive_and_not_ready_while_it_waits_for_the_api_server(tmp_path: Path) -> None:
    """A kubelet must not kill it: it cannot do better than wait."""
    cluster = {"name": "a", "cluster": {"server": f"https://127.0.0.1:{free_port()}"}}
    context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
    kubeconfig, port = tmp_path / "kubeconfig", free_port()
    user = {"name": "a", "user": {"token": "t"}}
    kubeconfig.write_text(
        json.dumps({"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "a"})
    )
    command = [sys.executable, "-m", "controlplane", "--source", "kubernetes", "--kubeconfig", kubeconfig]
    command += ["--xds-tls-port", "0", "--metrics-port", "0", "--debug-port", str(port)]
    with child(command, tmp_path / "log") as process:
        process.wait_for(lambda: "trying again" in process.output, "it waits for the API server")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert client.get("/healthz").status_code == 200
            for path in ("/ready", "/debug/syncz", "/debug/statusz", "/debug/config_dump?proxy=a"):
                assert client.get(path).status_code == 503


def test_sighup_and_sigusr1_are_ignored(tmp_path: Path) -> None:
    with control_plane(tmp_path / "mesh", tmp_path / "state") as plane:
        for number in (signal.SIGHUP, signal.SIGUSR1):
            plane.process.process.send_signal(number)
            ignored = f"{number.name} is ignored"
            plane.process.wait_for(lambda ignored=ignored: ignored in plane.process.output, ignored)


def test_a_restart_keeps_the_root_and_the_tokens(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with control_plane(tmp_path / "mesh", state) as plane:
        root = plane.root_certificate.read_bytes()
        token = create_token(state, "bookinfo", "productpage")
    with control_plane(tmp_path / "mesh", state) as plane, tls_channel(plane) as channel:
        assert plane.root_certificate.read_bytes() == root
        AdsStream(channel, ("authorization", f"Bearer {token}")).ask(type_urls.LISTENER)


def test_two_that_start_together_share_one_root(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (tmp_path / "mesh").mkdir()
    command = [sys.executable, "-m", "controlplane", "--folder", str(tmp_path / "mesh"), *FREE_PORTS]
    command += ["--state-dir", str(state), "--addresses-file"]
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    with (
        child([*command, first], tmp_path / "first.log") as one,
        child([*command, second], tmp_path / "second.log") as other,
    ):
        one.wait_for(first.exists, "ready")
        other.wait_for(second.exists, "ready")
        assert len(x509.load_pem_x509_certificates((state / "root-cert.pem").read_bytes())) == 1
        assert stat.S_IMODE((state / "root-ca.pem").stat().st_mode) == 0o600


def test_a_given_intermediate_signs_and_every_root_is_in_the_bundle(tmp_path: Path) -> None:
    lifetime = {"not_before": time.time() - 3600, "not_after": time.time() + 90 * 24 * 3600}
    root, next_root = TestAuthority("root", **lifetime), TestAuthority("next root", **lifetime)
    certificate, key = TestAuthority("intermediate", issuer=root, **lifetime).write(tmp_path, "ca")
    roots = tmp_path / "roots.pem"
    roots.write_bytes(root.certificate_pem + next_root.certificate_pem)
    flags = ["--signing-cert", str(certificate), "--signing-key", str(key), "--root-cert", str(roots)]
    with control_plane(tmp_path / "mesh", tmp_path / "state", *flags) as plane:
        (tmp_path / "token").write_text(create_token(plane.state_dir, "bookinfo", "reviews"))
        arguments = ["--ca-address", plane.xds_tls, "--ca-cert", roots, "--token-file", tmp_path / "token"]
        requested = outrigger("certificate", "request", *arguments, "--out", tmp_path / "identity")
        assert requested.returncode == 0, requested.stderr
    chain = x509.load_pem_x509_certificates((tmp_path / "identity" / "cert-chain.pem").read_bytes())
    bundle = x509.load_pem_x509_certificates((tmp_path / "identity" / "root-cert.pem").read_bytes())
    assert len(chain) == 2
    chain[0].verify_directly_issued_by(chain[1])
    chain[1].verify_directly_issued_by(bundle[0])
    assert bundle == [root.certificate, next_root.certificate]


def start_and_fail(tmp_path: Path, *flags: str) -> str:
    """Returns the line that a control plane prints when it cannot start."""
    (tmp_path / "mesh").mkdir(exist_ok=True)
    where = ["--folder", str(tmp_path / "mesh"), "--state-dir", str(tmp_path / "state")]
    command = [sys.executable, "-m", "controlplane", *where, *FREE_PORTS, *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, ended.stderr
    return lines[0]


@pytest.mark.parametrize("port", ["xds", "xds-tls", "debug", "metrics"])
def test_a_port_in_use_is_one_line_and_code_1(tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        line = start_and_fail(tmp_path, f"--{port}-port", str(number))
    assert line.startswith(f"controlplane: cannot listen on 127.0.0.1:{number} for ")
    assert line.lower().endswith("address already in use")


def test_a_missing_folder_is_one_line_and_code_1(tmp_path: Path) -> None:
    line = start_and_fail(tmp_path, "--folder", str(tmp_path / "absent"))
    assert line.startswith("controlplane: ")
    assert str(tmp_path / "absent") in line


def test_a_key_that_others_can_read_is_one_line_and_code_1(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    key = tmp_path / "state" / "root-ca.pem"
    key.write_text("")
    os.chmod(key, 0o644)
    line = start_and_fail(tmp_path)
    assert "root-ca.pem contains a private key, but its mode 0644 allows access to others" in line
