"""The real Envoy and the sidecar in front of a test's own clusters, and what both count for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.admin_client import ask
from tests.support.envoy import envoy_command
from tests.support.processes import Child, child, free_port

_TYPE = "type.googleapis.com/envoy.extensions.filters"


@dataclass(frozen=True, slots=True)
class Proxy:
    name: str
    process: Child
    port: int
    admin_port: int

    def ask(self, cluster: str) -> int:
        """The status of a request that is routed to the cluster."""
        return ask(self.port, f"/{cluster}").status

    def counters(self, cluster: str, *names: str) -> dict[str, int]:
        """By the names after ``cluster.<name>.``."""
        page = ask(self.admin_port, f"/stats?format=json&filter=^cluster\\.{cluster}\\.")
        values = {stat["name"]: stat["value"] for stat in page.json["stats"] if "name" in stat}
        return {name: values[f"cluster.{cluster}.{name}"] for name in names}


@contextmanager
def both_proxies(
    folder: Path,
    clusters: Sequence[Mapping[str, Any]],
    routes: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    concurrency: int = 1,
) -> Iterator[tuple[Proxy, Proxy]]:
    """Envoy and the sidecar. ``clusters`` are Envoy's, as JSON; a path that begins with a cluster's name goes
    to it, by a route action with what ``routes`` adds for that cluster."""
    with ExitStack() as stack:
        proxies = []
        for name in ("envoy", "sidecar"):
            port, admin_port = free_port(), free_port()
            file = folder / f"{name}.json"
            file.write_text(json.dumps(_bootstrap(port, admin_port, clusters, routes or {})))
            process = stack.enter_context(child(_command(name, file, concurrency), folder / f"{name}.log"))
            proxies.append(Proxy(name, process, port, admin_port))
        for proxy in proxies:
            proxy.process.wait_for_port(proxy.port)
        envoy, sidecar = proxies
        yield envoy, sidecar


def static_cluster(name: str, addresses: Sequence[tuple[str, int]], **fields: Any) -> dict[str, Any]:
    hosts = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
        for host, port in addresses
    ]
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}
    return {"name": name, "type": "STATIC", "load_assignment": assignment, **fields}


def _command(name: str, bootstrap: Path, concurrency: int) -> list[str]:
    if name == "envoy":
        return envoy_command(bootstrap, concurrency=concurrency)
    options = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
    options += ["--concurrency", str(concurrency)]
    return [sys.executable, "-m", "sidecar", "-c", str(bootstrap), *options]


def _bootstrap(
    port: int,
    admin_port: int,
    clusters: Sequence[Mapping[str, Any]],
    routes: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}},
        ],
        "route_config": {"name": "web", "virtual_hosts": [_virtual_host(clusters, routes)]},
    }
    return {
        "node": {"id": "parity", "cluster": "parity"},
        "admin": {"address": _address(admin_port)},
        "static_resources": {
            "listeners": [
                {
                    "name": "web",
                    "address": _address(port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": clusters,
        },
    }


def _virtual_host(
    clusters: Sequence[Mapping[str, Any]], routes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "name": "web",
        "domains": ["*"],
        "routes": [
            {
                "match": {"path_separated_prefix": f"/{cluster['name']}"},
                "route": {"cluster": cluster["name"], **routes.get(cluster["name"], {})},
            }
            for cluster in clusters
        ],
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
