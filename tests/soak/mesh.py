"""The applications, the control plane and the two sidecars, and the changes that happen to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.soak.application import Application
from tests.soak.certificates import NODES, CertificateFiles
from tests.soak.control_plane import ControlPlane, serving
from tests.soak.modes import next_mode
from tests.soak.resources import (
    ClusterFields,
    application_cluster,
    inbound_listener,
    outbound_cluster,
    outbound_listener,
    outbound_routes,
)
from tests.support.ads_follower import ads_document
from tests.support.envoy_config import listener as listener_document
from tests.support.envoy_config import load_assignment, tcp_proxy
from tests.support.processes import free_port
from tests.support.running_sidecar import RunningSidecar, running

APPLICATIONS = ("steady-1", "steady-2", "flaky-1", "flaky-2")
# Whether they speak HTTP/2; None: TCP.
OUTBOUND: dict[str, bool | None] = {"web-a": False, "web-b": True, "grpc": True, "tcp": None}
DRAIN_S = 10


class Mesh:
    """`ports` are those of clients: ``http`` and ``tcp``."""

    def __init__(self, control_plane: ControlPlane, certificates: CertificateFiles, rng: Random) -> None:
        self.control_plane = control_plane
        self.certificates = certificates
        self.applications = [Application(name) for name in APPLICATIONS]
        self.sidecars: dict[str, RunningSidecar] = {}
        self.ports = {"http": free_port(), "tcp": free_port()}
        self._inbound_ports = {(name, kind): free_port() for name in APPLICATIONS for kind in ("web", "tcp")}
        self._rng = rng
        self._generation = 0

    # The first configuration.

    def configure(self) -> None:
        tls = self.certificates.tls("inbound")
        for application in self.applications:
            for kind, http2 in (("http", False), ("grpc", True), ("tcp", None)):
                name = f"{application.name}-{kind}"
                document = application_cluster(name, application.ports[kind], http2=http2)
                self.control_plane.set("inbound", CLUSTER, name, document)
            for kind in ("web", "tcp"):
                self._set_inbound_listener(application.name, kind, tls)
        for name in OUTBOUND:
            self._set_cluster(name, ClusterFields())
            self._set_endpoints(name, list(APPLICATIONS))
        self._set_routes([("web-a", 50), ("web-b", 50)])
        self.control_plane.set("outbound", LISTENER, "outbound", outbound_listener(self.ports["http"], 0))
        tcp = {
            **listener_document("tcp", tcp_proxy("tcp"), self.ports["tcp"]),
            "traffic_direction": "OUTBOUND",
        }
        self.control_plane.set("outbound", LISTENER, "tcp", tcp)

    def _set_inbound_listener(self, application: str, kind: str, tls: dict[str, Any]) -> None:
        port = self._inbound_ports[application, kind]
        document = inbound_listener(application, port, tls, self._generation, proxied=kind == "tcp")
        self.control_plane.set("inbound", LISTENER, document["name"], document)

    def _set_cluster(self, name: str, fields: ClusterFields) -> None:
        document = outbound_cluster(name, self.certificates.tls("outbound"), fields, http2=OUTBOUND[name])
        self.control_plane.set("outbound", CLUSTER, name, document)

    def _set_endpoints(self, cluster: str, applications: list[str]) -> None:
        kind = "tcp" if cluster == "tcp" else "web"
        ports = [self._inbound_ports[name, kind] for name in applications]
        self.control_plane.set("outbound", ENDPOINT, cluster, load_assignment(cluster, *ports))

    def _set_routes(self, weights: list[tuple[str, int]]) -> None:
        self._generation += 1
        routes = outbound_routes(weights, str(self._generation))
        self.control_plane.set("outbound", ROUTE, "outbound", routes)

    # Changes. Each returns what it has done, or nothing.

    async def change_weights(self) -> str:
        share = self._rng.choice((0, 1, 50, 99, 100))
        self._set_routes([("web-a", share), ("web-b", 100 - share)])
        return f"web-a has {share}%"

    async def change_endpoints(self) -> str:
        cluster = self._rng.choice(list(OUTBOUND))
        steady = self._rng.sample(APPLICATIONS[:2], self._rng.choice((1, 2)))
        names = steady + self._rng.sample(APPLICATIONS[2:], self._rng.randrange(3))
        self._set_endpoints(cluster, names)
        return f"{cluster} has {', '.join(names)}"

    async def change_cluster(self) -> str:
        cluster = self._rng.choice(list(OUTBOUND))
        policy = self._rng.choice(("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"))
        timeout = self._rng.choice(("5s", "6s"))
        self._set_cluster(cluster, ClusterFields(lb_policy=policy, connect_timeout=timeout))
        return f"{cluster} balances by {policy}"

    async def replace_cluster(self) -> str:
        """web-b goes, and comes again: no route may have it meanwhile."""
        self._set_routes([("web-a", 100)])
        await self.control_plane.settled()
        self.control_plane.set("outbound", CLUSTER, "web-b", None)
        await asyncio.sleep(self._rng.choice((0.0, 0.5)))
        self._set_cluster("web-b", ClusterFields())
        await self.control_plane.settled()
        self._set_routes([("web-a", 50), ("web-b", 50)])
        return "web-b was removed and added"

    async def change_listener(self) -> str:
        """Its connections are drained."""
        self._generation += 1
        if self._rng.random() < 0.5:
            document = outbound_listener(self.ports["http"], self._generation)
            self.control_plane.set("outbound", LISTENER, "outbound", document)
            return "the outbound listener is replaced"
        name = self._rng.choice(APPLICATIONS)
        self._set_inbound_listener(name, "web", self.certificates.tls("inbound"))
        return f"the inbound listener of {name} is replaced"

    async def change_application(self) -> str:
        application = self._rng.choice(self.applications)
        mode = next_mode(self._rng, flaky=application.flaky)
        await application.change(mode)
        return f"{application.name} {mode.value}"

    async def restart_control_plane(self) -> str:
        self.control_plane.disconnect()
        return "the control plane ends its streams"


@asynccontextmanager
async def running_mesh(folder: Path, rng: Random, *flags: str) -> AsyncIterator[Mesh]:
    async with AsyncExitStack() as stack:
        control_plane = await stack.enter_async_context(serving())
        mesh = Mesh(control_plane, CertificateFiles(folder), rng)
        for application in mesh.applications:
            await application.start()
            stack.push_async_callback(application.stop)
        mesh.configure()
        for node in NODES:
            work = folder / node
            work.mkdir()
            document = ads_document(control_plane.port)
            document["node"]["id"] = node
            document["static_resources"]["clusters"] = document["static_resources"]["clusters"][2:]
            started = running(work, document, "--drain-time-s", str(DRAIN_S), *flags)
            # It waits for the sidecar's state, which needs this loop.
            sidecar = await asyncio.to_thread(started.__enter__)
            stack.push_async_callback(asyncio.to_thread, started.__exit__, None, None, None)
            mesh.sidecars[node] = sidecar
            await asyncio.to_thread(sidecar.wait_for_state, "LIVE")
        yield mesh
