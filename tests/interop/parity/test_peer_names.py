"""Which certificates of a host fit a cluster's SAN matches: every match against every certificate."""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import DNSName, GeneralName, IPAddress, RFC822Name, UniformResourceIdentifier

from tests.interop.parity.cluster_pair import Proxy, both_proxies, static_cluster
from tests.support.certificates import TestAuthority, leaf_pem

CERTIFICATES: dict[str, list[GeneralName]] = {
    "wildcard": [DNSName("*.wild.test")],
    "upper": [DNSName("*.WILD.test"), DNSName("B.upper.TEST")],
    "part": [DNSName("web-*.wild.test")],
    "deep": [DNSName("a.*.wild.test")],
    "two-stars": [DNSName("*a*.wild.test")],
    "a-label": [DNSName("xn--*.wild.test")],
    "plain": [DNSName("a.wild.test")],
    "uri": [UniformResourceIdentifier("spiffe://wild.test/ns/a/sa/b")],
    "uri-like-dns": [UniformResourceIdentifier("*.wild.test")],
    "mail": [RFC822Name("a@wild.test"), RFC822Name("*.wild.test")],
    "address": [IPAddress(ipaddress.ip_address("2001:db8::1"))],
}
MATCHES: dict[str, dict[str, str]] = {
    "exact": {"exact": "a.wild.test"},
    "exact-upper": {"exact": "A.Wild.test"},
    "exact-web": {"exact": "web-1.wild.test"},
    "exact-deep": {"exact": "a.b.wild.test"},
    "exact-a-label": {"exact": "xn--bcher-kva.wild.test"},
    "exact-parent": {"exact": "wild.test"},
    "exact-star": {"exact": "*.wild.test"},
    "exact-other-case": {"exact": "b.upper.test"},
    "exact-mail": {"exact": "A@wild.test"},
    "exact-uri": {"exact": "spiffe://wild.test/ns/a/sa/b"},
    "exact-address": {"exact": "2001:db8::1"},
    "prefix": {"prefix": "a."},
    "prefix-star": {"prefix": "*."},
    "suffix": {"suffix": ".wild.test"},
    "suffix-upper": {"suffix": ".WILD.test"},
    "contains": {"contains": "wild"},
}
TYPES = (None, "DNS", "URI")
"""None: ``match_subject_alt_names``."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a proxy that does not trust it leaves


@contextmanager
def _server(pem: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with _Server(("127.0.0.1", 0), _Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, name=pem.stem, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Proxy]]:
    folder = tmp_path_factory.mktemp("names")
    now_s = time.time()
    authority = TestAuthority("root", not_before=now_s - 3600, not_after=now_s + 3600)
    root = authority.certificate_pem.decode()
    with ExitStack() as stack:
        clusters = []
        for name, names in CERTIFICATES.items():
            pem = folder / f"{name}.pem"
            pem.write_bytes(leaf_pem(authority, names))
            port = stack.enter_context(_server(pem))
            clusters += [_cluster(name, port, match, kind, root) for match in MATCHES for kind in TYPES]
        yield stack.enter_context(both_proxies(folder, clusters))


def _cluster(certificate: str, port: int, match: str, san_type: str | None, root: str) -> dict[str, Any]:
    matcher = MATCHES[match]
    validation: dict[str, Any] = {"trusted_ca": {"inline_string": root}}
    if san_type is None:
        validation["match_subject_alt_names"] = [matcher]
    else:
        validation["match_typed_subject_alt_names"] = [{"san_type": san_type, "matcher": matcher}]
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"validation_context": validation},
    }
    return static_cluster(
        _name(certificate, match, san_type),
        [("127.0.0.1", port)],
        transport_socket={"name": "tls", "typed_config": tls},
    )


def _name(certificate: str, match: str, san_type: str | None) -> str:
    return f"{certificate}_{match}_{san_type or 'untyped'}"


@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_certificates_and_matches(proxies: tuple[Proxy, Proxy], certificate: str) -> None:
    names = [_name(certificate, match, san_type) for match in MATCHES for san_type in TYPES]
    envoys, ours = ({name for name in names if proxy.ask(name) == 200} for proxy in proxies)
    assert envoys, "no match fits this certificate: it is worth nothing here"
    assert ours == envoys
    if certificate == "wildcard":
        assert _name("wildcard", "exact", None) in envoys
