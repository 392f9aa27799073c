"""A worker gets its configuration over a socket, and serves in a process without xDS."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from protos.node import WORKLOAD_METADATA
from sidecar.config.listener import TrafficDirection
from sidecar.config.snapshot import Snapshot
from sidecar.errors import ConfigError
from sidecar.listener.manager import ListenerState
from sidecar.process.worker import WorkerConfig
from sidecar.xds.decode import decode_bootstrap
from tests.support.backends import backend
from tests.support.envoy_config import (
    bootstrap,
    changed,
    downstream_tls,
    http_connection_manager,
    listener,
    route_configuration,
    static_cluster,
)
from tests.support.identities import MESH_CLIENT, RATINGS, REVIEWS, TestTrustDomain
from tests.support.worker_process import Channel, Report

MESH_TLS = downstream_tls(
    alpn_protocols=["istio"],
    tls_certificate_sds_secret_configs=[{"name": "default"}],
    validation_context_sds_secret_config={"name": "ROOTCA"},
)


def decoded(port: int) -> Snapshot:
    """One listener with mesh TLS, whose route forwards what matches a regex to ``port``."""
    route = "virtual_hosts[0].routes[0]"
    routes = changed(route_configuration(), f"{route}.match", {"safe_regex": {"regex": "/re.*"}})
    inbound = listener("inbound", http_connection_manager(route_config=routes))
    inbound = changed(inbound, "filter_chains[0].transport_socket", MESH_TLS)
    document = changed(bootstrap(), "static_resources.listeners", [inbound])
    document = changed(document, "static_resources.clusters", [static_cluster("a", port)])
    snapshot = decode_bootstrap(document, warn=pytest.fail).static
    named = replace(
        snapshot.listeners["inbound"],
        direction=TrafficDirection.INBOUND,
        metadata={WORKLOAD_METADATA: "reviews;default;;;"},
    )
    return replace(snapshot, listeners={"inbound": named})


@contextmanager
def worker_process() -> Iterator[Channel]:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    channel = Channel(ours)
    command = [sys.executable, "-m", "tests.support.worker_process", str(theirs.fileno())]
    with theirs, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        try:
            yield channel
        finally:
            channel.close()
            try:
                assert process.wait(20) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def report_of(worker: Channel) -> Report:
    worker.send("report")
    report = worker.receive()
    assert isinstance(report, Report)
    return report


def test_worker_serves_with_values_that_cross_a_socket() -> None:
    domain = TestTrustDomain(REVIEWS)
    with backend("v1") as upstream, worker_process() as worker:
        worker.send(WorkerConfig())
        worker.send(decoded(upstream.server_port))
        assert worker.receive() == {}
        worker.send(domain.svid().pem())
        assert worker.receive() == {}

        (status,) = report_of(worker).listeners
        assert status.state is ListenerState.ACTIVE
        context = domain.contexts(RATINGS).client(MESH_CLIENT)
        client = http.client.HTTPSConnection("127.0.0.1", status.address.port, timeout=10, context=context)
        client.request("GET", "/reviews")
        assert client.getresponse().read().startswith(b'{"version": "v1"')
        client.close()

        report = report_of(worker)
        counters = {prefix: dict(each.items()) for prefix, each in report.stats.counters}
        assert counters["cluster.a"]["upstream_rq_2xx"] == 1
        (requests,) = report.stats.requests
        assert requests.labels["source_principal"] == str(RATINGS)
        assert requests.labels["destination_workload"] == "reviews"
        (host,) = report.clusters[0].hosts
        assert host.stats.rq_success == 1
        assert not report.imported & {"grpc", "google", "envoy", "cryptography"}


def test_error_by_listener_crosses_a_socket() -> None:
    ours, theirs = (Channel(sock) for sock in socket.socketpair())
    ours.send({"l": ConfigError("address", "is taken")})
    error = theirs.receive()["l"]
    ours.close()
    theirs.close()
    assert (error.path, error.reason, str(error)) == ("address", "is taken", "address: is taken")
