"""What the builders make for a proxy, shown to the real Envoy and to our own sidecar, which say
whether they would take it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import trustme
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from controlplane.model.proxy import Proxy
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import build_clusters, build_endpoints, build_listeners, build_routes
from controlplane.networking.build_cache import BuildCache
from protos import type_urls
from sidecar.xds.decode import decode_resource
from tests.support.envoy import envoy_command
from tests.support.static_bootstrap import static_bootstrap

_TYPE_URLS = {
    "listeners": type_urls.LISTENER,
    "routes": type_urls.ROUTE,
    "clusters": type_urls.CLUSTER,
    "endpoints": type_urls.ENDPOINT,
}


def built(snapshot: MeshSnapshot, proxy: Proxy) -> dict[str, Mapping[str, Any]]:
    """All that the proxy would ask for."""
    cache = BuildCache()
    listeners, clusters = (
        build_listeners(cache, snapshot, proxy),
        build_clusters(cache, snapshot, proxy),
    )
    return {
        "listeners": listeners,
        "routes": build_routes(cache, snapshot, proxy, set(_route_config_names(listeners.values()))),
        "clusters": clusters,
        "endpoints": build_endpoints(cache, snapshot, proxy, clusters),
    }


def _route_config_names(listeners: Iterable[Listener]) -> Iterable[str]:
    for listener in listeners:
        for chain in listener.filter_chains:
            manager = HttpConnectionManager()
            if chain.filters[0].typed_config.Unpack(manager) and manager.HasField("rds"):
                yield manager.rds.route_config_name


def assert_envoy_accepts(resources: dict[str, Mapping[str, Any]], folder: Path) -> None:
    """Without an error, and without a warning."""
    authority = trustme.CA()
    own = authority.issue_cert("sidecar.example.com")
    bootstrap = static_bootstrap(
        **resources,
        certificate=own.cert_chain_pems[0].bytes().decode(),
        private_key=own.private_key_pem.bytes().decode(),
        trust_bundle=authority.cert_pem.bytes().decode(),
    )
    file = folder / "envoy.json"
    file.write_text(bootstrap)
    ran = subprocess.run(
        envoy_command(file, "--mode", "validate"), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == "", "Envoy warned"


def assert_sidecar_accepts(resources: dict[str, Mapping[str, Any]]) -> None:
    for kind, type_url in _TYPE_URLS.items():
        for message in resources[kind].values():
            decode_resource(type_url, message.SerializeToString())
