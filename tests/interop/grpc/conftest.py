"""Two sidecars between the clients and the server: HTTP/2, and mutual TLS between them.

client -> outbound -> mTLS -> inbound -> server
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.x509 import UniformResourceIdentifier

from tests.interop.grpc.service import serving
from tests.support.certificates import TestAuthority, leaf_pem
from tests.support.envoy_config import (
    HTTP_OPTIONS,
    TYPE,
    downstream_tls,
    http_connection_manager,
    listener,
    load_assignment,
    upstream_tls,
)
from tests.support.grpc_interop import GRPC_INTEROP, serving_by_go
from tests.support.processes import free_port
from tests.support.running_sidecar import RunningSidecar, running

Document = dict[str, Any]
CLIENT = "spiffe://cluster.local/ns/default/sa/client"
SERVER = "spiffe://cluster.local/ns/default/sa/server"
HTTP2 = {
    HTTP_OPTIONS: {"@type": f"{TYPE}/{HTTP_OPTIONS}", "explicit_http_config": {"http2_protocol_options": {}}}
}
DEADLINES = {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """`port` is where clients call."""

    port: int
    outbound: RunningSidecar
    inbound: RunningSidecar


@pytest.fixture(scope="session")
def go_program() -> Path:
    return GRPC_INTEROP.build(print)


@pytest.fixture(scope="session", params=["grpcio", "grpc-go"])
def hop(
    request: pytest.FixtureRequest, go_program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hop]:
    """The parameter is the server behind the sidecars."""
    folder = tmp_path_factory.mktemp("grpc")
    now_s = time.time()
    authority = TestAuthority("grpc", not_before=now_s - 3600, not_after=now_s + 3600)
    with ExitStack() as stack:
        server = serving() if request.param == "grpcio" else serving_by_go(go_program)
        server_port = stack.enter_context(server)
        ports = {"outbound": free_port(), "inbound": free_port()}
        sidecars = {}
        for name, document in (
            ("inbound", inbound(ports["inbound"], server_port, identity(folder, authority, SERVER, CLIENT))),
            (
                "outbound",
                outbound(ports["outbound"], ports["inbound"], identity(folder, authority, CLIENT, SERVER)),
            ),
        ):
            work = folder / name
            work.mkdir()
            sidecars[name] = stack.enter_context(running(work, document))
            sidecars[name].process.wait_for_port(ports[name])
        yield Hop(port=ports["outbound"], **sidecars)


@pytest.fixture
def channel(hop: Hop) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{hop.port}", options=options) as made:
        yield made


def identity(folder: Path, authority: TestAuthority, uri: str, peer: str) -> Document:
    """The certificate of one side, which accepts only `peer` on the other."""
    name = uri.rpartition("/")[2]
    file, trusted = folder / f"{name}.pem", folder / f"{name}-ca.pem"
    file.touch(mode=0o600)
    file.write_bytes(leaf_pem(authority, [UniformResourceIdentifier(uri)]))
    trusted.write_bytes(authority.certificate_pem)
    files = {"certificate_chain": {"filename": str(file)}, "private_key": {"filename": str(file)}}
    san = {"san_type": "URI", "matcher": {"exact": peer}}
    return {
        "tls_certificates": [files],
        "validation_context": {
            "trusted_ca": {"filename": str(trusted)},
            "match_typed_subject_alt_names": [san],
        },
        "alpn_protocols": ["h2"],
    }


def outbound(port: int, inbound_port: int, common: Document) -> Document:
    tls = upstream_tls(**common)
    tls["typed_config"]["sni"] = "server.default.svc.cluster.local"
    return sidecar_document(port, "OUTBOUND", {"max_grpc_timeout": "0s"}, inbound_port, transport_socket=tls)


def inbound(port: int, server_port: int, common: Document) -> Document:
    document = sidecar_document(port, "INBOUND", {"max_stream_duration": DEADLINES}, server_port)
    tls = downstream_tls(**common)
    tls["typed_config"]["require_client_certificate"] = True
    document["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = tls
    return document


def sidecar_document(
    port: int,
    direction: str,
    limits: Document,
    upstream_port: int,
    *,
    http_filters: list[Document] | None = None,
    **cluster: Any,
) -> Document:
    """A listener for calls, and the cluster of their server."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0s", **limits}}
    routes = {"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}
    filters = {} if http_filters is None else {"http_filters": http_filters}
    manager = http_connection_manager(route_config=routes, stream_idle_timeout="0s", **filters)
    return {
        "node": {"id": "grpc", "cluster": "grpc"},
        "static_resources": {
            "listeners": [{**listener("calls", manager, port), "traffic_direction": direction}],
            "clusters": [
                {
                    "name": "up",
                    "type": "STATIC",
                    "connect_timeout": "2s",
                    "typed_extension_protocol_options": HTTP2,
                    "load_assignment": load_assignment("up", upstream_port),
                    **cluster,
                }
            ],
        },
    }
