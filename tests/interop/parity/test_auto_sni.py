"""Names for TLS that come from each request: the SNI, and the name that the host's certificate must have."""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import DNSName, GeneralName, IPAddress, UniformResourceIdentifier

from tests.interop.parity.cluster_pair import Proxy, both_proxies, static_cluster
from tests.interop.parity.comparison import ask
from tests.support.certificates import TestAuthority, leaf_pem
from tests.support.raw_http import RawConnection

TYPE = "type.googleapis.com"
TLS = f"{TYPE}/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# The server shows the certificate of the name that the client asks for, or else the one of "other".
CERTIFICATES: dict[str, list[GeneralName]] = {
    "a.test": [DNSName("a.test"), UniformResourceIdentifier("uri.test")],
    "b.test": [DNSName("b.test")],
    "x.wild.test": [DNSName("*.wild.test")],
    "other": [DNSName("other.test"), IPAddress(ipaddress.ip_address("127.0.0.1"))],
}


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = getattr(self.connection, "sni", None)
        content = f"sni {name}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a proxy that does not trust it leaves


@contextmanager
def _server(folder: Path, authority: TestAuthority) -> Iterator[int]:
    contexts: dict[str, ssl.SSLContext] = {}
    for name, names in CERTIFICATES.items():
        pem = folder / f"{name}.pem"
        pem.write_bytes(leaf_pem(authority, names))
        contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[name].load_cert_chain(pem)

    def choose(connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        connection.sni = name
        connection.context = contexts.get(name or "", contexts["other"])

    contexts["other"].sni_callback = choose  # type: ignore[assignment]
    with _Server(("127.0.0.1", 0), _Answer) as server:
        server.socket = contexts["other"].wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=server.serve_forever, name="tls", kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _cluster(
    name: str, port: int, root: str | None, sni: str = "", sans: tuple[str, ...] = (), **options: Any
) -> dict[str, Any]:
    validation: dict[str, Any] = {}
    if root is not None:
        validation["trusted_ca"] = {"inline_string": root}
    if sans:
        validation["match_typed_subject_alt_names"] = [
            {"san_type": "DNS", "matcher": {"exact": san}} for san in sans
        ]
    common = {"validation_context": validation} if validation else {}
    http = {
        "@type": f"{TYPE}/{OPTIONS}",
        "explicit_http_config": {"http_protocol_options": {}},
        "upstream_http_protocol_options": options,
    }
    return static_cluster(
        name,
        [("127.0.0.1", port)],
        transport_socket={
            "name": "tls",
            "typed_config": {"@type": TLS, "sni": sni, "common_tls_context": common},
        },
        typed_extension_protocol_options={OPTIONS: http},
    )


ROUTES: Mapping[str, Mapping[str, Any]] = {
    "rewritten": {"host_rewrite_literal": "b.test:8443"},
}
CLUSTERS = (
    "sni", "configured", "san", "both", "both-and-sans", "by-header", "rewritten", "unverified",
    "without-roots",
)  # fmt: skip


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Proxy]]:
    folder = tmp_path_factory.mktemp("names")
    now_s = time.time()
    authority = TestAuthority("root", not_before=now_s - 3600, not_after=now_s + 3600)
    root = authority.certificate_pem.decode()
    both = {"auto_sni": True, "auto_san_validation": True}
    with ExitStack() as stack:
        port = stack.enter_context(_server(folder, authority))
        clusters = [
            _cluster("sni", port, root, auto_sni=True),
            _cluster("configured", port, root, sni="b.test", auto_sni=True),
            _cluster("san", port, root, sni="a.test", auto_san_validation=True),
            _cluster("both", port, root, **both),
            _cluster("both-and-sans", port, root, sans=("a.test", "x.wild.test"), **both),
            _cluster("by-header", port, root, override_auto_sni_header="x-name", **both),
            _cluster("rewritten", port, root, **both),
            _cluster("counted", port, root, auto_sni=True),
            _cluster("unverified", port, None, auto_sni=True),
            _cluster("without-roots", port, None, **both),
        ]
        yield stack.enter_context(both_proxies(folder, clusters, ROUTES))


HOSTS: dict[str, tuple[str, ...]] = {
    "a.test": (),
    "A.test": (),
    "a.test:443": (),
    "b.test": (),
    "x.wild.test": (),
    "y.wild.test": (),
    "x.y.wild.test": (),
    "other.test": (),
    "uri.test": (),
    "127.0.0.1": (),
    "127.0.0.1:8443": (),
    "127.0.0.2": (),
    "[::1]:443": (),
    "under_score.test": (),
    "a.test, named b.test": ("x-name: b.test",),
    "b.test, named a.test:1": ("x-name: a.test:1",),
    "b.test, named twice": ("x-name: a.test", "x-name: b.test"),
    "b.test, named with nothing": ("x-name:",),
}


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_names_of_each_request(proxies: tuple[Proxy, Proxy], cluster: str) -> None:
    envoys, ours = ({name: _answer(proxy, cluster, name) for name in HOSTS} for proxy in proxies)
    assert ours == envoys
    assert any(status == 200 for status, _ in envoys.values()) is (cluster != "without-roots")


def test_connections_are_shared_only_by_requests_of_one_name(proxies: tuple[Proxy, Proxy]) -> None:
    for name in ("a.test", "b.test", "a.test", "127.0.0.1", "b.test"):
        for proxy in proxies:
            assert _answer(proxy, "counted", name)[0] == 200
    counted = [proxy.counters("counted", "upstream_cx_total", "ssl.handshake") for proxy in proxies]
    assert counted[1] == counted[0] == {"upstream_cx_total": 3, "ssl.handshake": 3}


def _answer(proxy: Proxy, cluster: str, name: str) -> tuple[int, str]:
    host, _, _ = name.partition(",")
    with RawConnection(proxy.port) as connection:
        connection.send(ask(f"GET /{cluster}", *HOSTS[name], host=host))
        answer = connection.read_answer("GET")
    return answer.status, answer.body if answer.status == 200 else ""
