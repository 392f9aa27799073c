"""The real Envoy and our own sidecar take every resource that the builders make, without a warning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Protocol
from tests.support.acceptance import assert_envoy_accepts, assert_sidecar_accepts, built
from tests.support.bookinfo_mesh import bookinfo, bookinfo_proxies
from tests.support.meshes import mesh, port, service, sidecar_proxy, workload

SIDECARS = ("redirected", "strict", "explicit")


@pytest.mark.parametrize("name", SIDECARS)
def test_envoy_accepts_bookinfo(name: str, tmp_path: Path) -> None:
    resources = built(bookinfo(), bookinfo_proxies()[name])
    assert_envoy_accepts(resources, tmp_path)


@pytest.mark.parametrize("name", SIDECARS)
def test_our_sidecar_understands_bookinfo(name: str) -> None:
    resources = built(bookinfo(), bookinfo_proxies()[name])
    assert_sidecar_accepts(resources)


@pytest.mark.parametrize("mode", [InterceptionMode.NONE, InterceptionMode.REDIRECT])
@pytest.mark.parametrize("count", [0, 2, 150])
def test_envoy_and_our_sidecar_accept_headless_services(
    mode: InterceptionMode, count: int, tmp_path: Path
) -> None:
    ports = [port(9092, Protocol.TCP), port(9093, Protocol.TLS), port(9200), port(9300, Protocol.UNSUPPORTED)]
    kafka = service("kafka", *ports, headless=True)
    workloads = [workload("kafka", f"10.1.0.{number + 1}", f"v{number}") for number in range(count)]
    web = service("web", port(80), addresses=("10.96.0.1",))
    to_kafka = [{"destination": {"host": kafka.hostname, "port": {"number": 9200}}}]
    snapshot = mesh(
        (kafka, workloads),
        (web, []),
        virtual_services={"web": {"hosts": [web.hostname], "http": [{"route": to_kafka}]}},
    )
    named = [replace(each, hostname=each.workload.name) for each in snapshot.endpoints[kafka.hostname]]
    snapshot = replace(snapshot, endpoints={**snapshot.endpoints, kafka.hostname: tuple(named)})
    resources = built(snapshot, sidecar_proxy(interception_mode=mode, http_proxy_port=15080))
    assert_envoy_accepts(resources, tmp_path)
    assert_sidecar_accepts(resources)


@pytest.mark.parametrize("simple", ["PASSTHROUGH", "RANDOM"])
def test_envoy_and_our_sidecar_accept_mesh_tls_where_nothing_is_balanced(simple: str, tmp_path: Path) -> None:
    target = service("reviews", addresses=("10.96.0.1",))
    policy = {"loadBalancer": {"simple": simple}}
    snapshot = mesh(
        (target, [workload("reviews", "10.1.0.1")]),
        destination_rules={"reviews": {"host": target.hostname, "trafficPolicy": policy}},
    )
    resources = built(snapshot, sidecar_proxy())
    assert_envoy_accepts(resources, tmp_path)
    assert_sidecar_accepts(resources)


ODD_ROUTES: list[dict[str, Any]] = [
    {"match": [{"uri": {"prefix": ""}}], "directResponse": {"status": 200}},
    {"match": [{"uri": {"exact": ""}}], "directResponse": {"status": 599}},
    {"match": [{"headers": {"a": {"prefix": ""}, "b": {"exact": ""}}}], "directResponse": {"status": 200}},
    {
        "match": [{"queryParams": {"a": {"exact": ""}, "b": {"prefix": ""}}}],
        "directResponse": {"status": 200},
    },
    {"match": [{"uri": {"regex": "/a{1000}" * 32}}], "directResponse": {"status": 200}},
    {"match": [{"headers": {"a": {"regex": ".{1000}" * 12}}}], "directResponse": {"status": 200}},
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
    assert_envoy_accepts(built(snapshot, sidecar_proxy()), tmp_path)
