"""The real Envoy and our own sidecar take every resource that the builders make, without a warning."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme

from controlplane.model.proxy import Proxy
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import build_clusters, build_endpoints, build_listeners, build_routes
from protos import type_urls
from sidecar.xds.decode import decode_resource
from tests.support.bookinfo_mesh import bookinfo, bookinfo_proxies, route_config_names
from tests.support.envoy import envoy_command
from tests.support.meshes import mesh, service, sidecar_proxy
from tests.support.static_bootstrap import static_bootstrap

SIDECARS = ("redirected", "strict", "explicit")


def built(snapshot: MeshSnapshot, proxy: Proxy, route_configs: list[str]) -> dict[str, Mapping[str, Any]]:
    clusters = build_clusters(snapshot, proxy)
    return {
        "listeners": build_listeners(snapshot, proxy),
        "routes": build_routes(snapshot, proxy, route_configs),
        "clusters": clusters,
        "endpoints": build_endpoints(snapshot, proxy, clusters),
    }


def assert_envoy_accepts(resources: dict[str, Mapping[str, Any]], folder: Path) -> None:
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


@pytest.mark.parametrize("name", SIDECARS)
def test_envoy_accepts_bookinfo(name: str, tmp_path: Path) -> None:
    resources = built(bookinfo(), bookinfo_proxies()[name], route_config_names(name))
    assert_envoy_accepts(resources, tmp_path)


@pytest.mark.parametrize("name", SIDECARS)
def test_our_sidecar_understands_bookinfo(name: str) -> None:
    resources = built(bookinfo(), bookinfo_proxies()[name], route_config_names(name))
    for kind, type_url in (
        ("listeners", type_urls.LISTENER),
        ("routes", type_urls.ROUTE),
        ("clusters", type_urls.CLUSTER),
        ("endpoints", type_urls.ENDPOINT),
    ):
        for message in resources[kind].values():
            decode_resource(type_url, message.SerializeToString())


ODD_ROUTES: list[dict[str, Any]] = [
    {"match": [{"uri": {"prefix": ""}}], "directResponse": {"status": 200}},
    {"match": [{"uri": {"exact": ""}}], "directResponse": {"status": 599}},
    {"match": [{"headers": {"a": {"prefix": ""}, "b": {"exact": ""}}}], "directResponse": {"status": 200}},
    {
        "match": [{"queryParams": {"a": {"exact": ""}, "b": {"prefix": ""}}}],
        "directResponse": {"status": 200},
    },
    {"match": [{"withoutHeaders": {"a": {"prefix": ""}}}], "directResponse": {"status": 200}},
    {"directResponse": {"status": 200, "body": {"string": "x" * 10_000}}},
    {"redirect": {"redirectCode": 303, "derivePort": "FROM_REQUEST_PORT"}},
    {"rewrite": {"uri": ""}, "route": [{"destination": {"host": "reviews.default.svc.cluster.local"}}]},
    {
        "headers": {"request": {"set": {"host": "a"}, "add": {"host": "b"}}},
        "route": [{"destination": {"host": "unknown.example.com", "subset": "v9"}}],
        "retries": {"attempts": 1, "retryOn": "503", "perTryTimeout": "0s"},
        "timeout": "0s",
    },
]


@pytest.mark.parametrize("number", range(len(ODD_ROUTES)))
def test_envoy_accepts_every_odd_route_that_validation_lets_pass(number: int, tmp_path: Path) -> None:
    host = "reviews.default.svc.cluster.local"
    snapshot = mesh(
        (service("reviews"), []), virtual_services={"odd": {"hosts": [host], "http": [ODD_ROUTES[number]]}}
    )
    assert_envoy_accepts(built(snapshot, sidecar_proxy(), ["9080"]), tmp_path)
