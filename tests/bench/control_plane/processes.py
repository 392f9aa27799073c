"""The processes: from YAML files to proxies, and events that delay a sidecar."""

from __future__ import annotations

import asyncio
import socket
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import grpc

from protos.type_urls import ENDPOINT, LISTENER, ROUTE
from tests.bench.control_plane.figures import figure, timed
from tests.support.ads_client import DeltaClient, node_of
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import destination, virtual_service
from tests.support.envoy_config import (
    bootstrap,
    changed,
    http_connection_manager,
    listener,
    route_configuration,
    static_cluster,
)
from tests.support.following_envoy import following_envoy, identity
from tests.support.large_mesh import ENDPOINTS, SERVICES, workload_text, write_large_mesh
from tests.support.mesh_folder import MeshFolder
from tests.support.processes import free_port
from tests.support.running_sidecar import RunningSidecar, running

CHANGES = 5
LONG_PAGES = ("/stats", "/stats?format=json", "/stats/prometheus", "/clusters", "/clusters?format=json")
CLIENTS, WAIT_S = 20, 2.0
_INSPECTOR = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
HTTP_INSPECTOR = {
    "name": "envoy.filters.listener.http_inspector",
    "typed_config": {"@type": f"type.googleapis.com/{_INSPECTOR}"},
}
EXPLICIT_PROXY = {"INTERCEPTION_MODE": "NONE", "HTTP_PROXY_PORT": "15080"}


def plane() -> None:
    with ExitStack() as stack:
        work_dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = MeshFolder(work_dir / "mesh")
        write_large_mesh(folder)
        with timed(f"the control plane reads {SERVICES} files of {ENDPOINTS} endpoints each"):
            running = stack.enter_context(control_plane(folder.path, work_dir / "state"))
        asyncio.run(a_sidecar(running, folder))
        for variant in ("--delta", "--sotw"):
            files = identity(running, work_dir / f"identity{variant}", "default", "envoy")
            with timed(f"Envoy, {variant}: started, and everything acknowledged"):
                envoy = following_envoy(running, files, f"envoy{variant}", variant)
                stack.enter_context(envoy)


async def a_sidecar(running: RunningControlPlane, folder: MeshFolder) -> None:
    """The debounce of 0.1 s is part of each change."""
    async with (
        grpc.aio.insecure_channel(running.xds) as channel,
        DeltaClient(channel, node_of("sidecar", **EXPLICIT_PROXY)) as sidecar,
    ):
        with timed("everything built, sent to a first sidecar and acknowledged"):
            await sidecar.follow(SERVICES)
            await sidecar.subscribe(LISTENER)
            await sidecar.accept(LISTENER)
            await sidecar.subscribe(ROUTE, "http_proxy")
            await sidecar.accept(ROUTE)
        changes_s = []
        for change in range(CHANGES):
            start_s = time.perf_counter()
            folder.write_text("added", workload_text(7, ENDPOINTS + change))
            await sidecar.accept(ENDPOINT)
            changes_s.append(time.perf_counter() - start_s)
        figure("one endpoint, from the file to the sidecar, the median", statistics.median(changes_s), "s")
        with timed("one VirtualService, from the file to the sidecar"):
            folder.write("route", virtual_service("s7", ["s7"], destination("s8")))
            await sidecar.accept(ROUTE)


def admin_pages() -> None:
    """The sidecar serves others while a client reads a long page of its admin port."""
    document = bootstrap()
    names = [f"outbound|80||svc{number}.default" for number in range(2000)]
    document["static_resources"]["clusters"] += [static_cluster(name, 1) for name in names]
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), document) as sidecar:
        sidecar.wait_for_state("LIVE")
        for path in LONG_PAGES:
            with socket.create_connection(("127.0.0.1", sidecar.port("admin")), timeout=10) as page:
                page.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
                page.recv(1)
                slowest_s = max(answer_s(sidecar) for _ in range(5))
            figure(f"the slowest other answer, while {path} is written", slowest_s, "s")


def answer_s(sidecar: RunningSidecar) -> float:
    start_s = time.perf_counter()
    sidecar.ask("/healthz/ready", name="status")
    return time.perf_counter() - start_s


def first_bytes() -> None:
    """The sidecar waits for the rest of a first line: the kernel must not wake it for bytes that it has
    seen."""
    port = free_port()
    entry = listener("sniffing", http_connection_manager(route_config=route_configuration()), port)
    document = changed(
        bootstrap(), "static_resources.listeners[1]", {**entry, "listener_filters": [HTTP_INSPECTOR]}
    )
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), document) as sidecar:
        sidecar.wait_for_state("LIVE")
        with ExitStack() as stack:
            for _ in range(CLIENTS):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(b"GET /reviews HT")
            before_s = sidecar.process.cpu_s()
            time.sleep(WAIT_S)
            share = (sidecar.process.cpu_s() - before_s) / WAIT_S
        figure(f"CPU of a sidecar that waits for {CLIENTS} clients", 100 * share, "%")


CASES = {"control-plane": plane, "admin-pages": admin_pages, "first-bytes": first_bytes}
