"""The real Envoy and our own sidecar take every resource that the builders make, without a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.acceptance import assert_envoy_accepts, assert_sidecar_accepts, built
from tests.support.bookinfo_mesh import bookinfo, bookinfo_proxies
from tests.support.meshes import mesh, service, sidecar_proxy

SIDECARS = ("redirected", "strict", "explicit")


@pytest.mark.parametrize("name", SIDECARS)
def test_envoy_accepts_bookinfo(name: str, tmp_path: Path) -> None:
    resources = built(bookinfo(), bookinfo_proxies()[name])
    assert_envoy_accepts(resources, tmp_path)


@pytest.mark.parametrize("name", SIDECARS)
def test_our_sidecar_understands_bookinfo(name: str) -> None:
    resources = built(bookinfo(), bookinfo_proxies()[name])
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
