"""Bookinfo's resources, whole, as files in tests/golden: a change of what is on the wire is seen in review.

After a change that was meant, run this module with ``UPDATE_GOLDEN=1`` in the environment.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from controlplane.networking import build_clusters, build_endpoints, build_listeners, build_routes
from controlplane.networking.build_cache import BuildCache
from tests.support.bookinfo_mesh import bookinfo, bookinfo_proxies, route_config_names

GOLDEN = Path(__file__).parents[3] / "golden"


def resources(proxy_name: str) -> dict[str, Any]:
    cache = BuildCache()
    snapshot, proxy = bookinfo(), bookinfo_proxies()[proxy_name]
    clusters = build_clusters(cache, snapshot, proxy)
    built = {
        "listeners": build_listeners(cache, snapshot, proxy),
        "routes": build_routes(cache, snapshot, proxy, route_config_names(proxy_name)),
        "clusters": clusters,
        "endpoints": build_endpoints(cache, snapshot, proxy, clusters),
    }
    return {
        kind: {
            name: MessageToDict(message, preserving_proto_field_name=True)
            for name, message in messages.items()
        }
        for kind, messages in built.items()
    }


@pytest.mark.parametrize("proxy_name", bookinfo_proxies())
def test_bookinfo_gets_the_resources_of_the_golden_file(proxy_name: str) -> None:
    file = GOLDEN / f"bookinfo_{proxy_name}.json"
    found = resources(proxy_name)
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(json.dumps(found, indent=1) + "\n")
    expected = json.loads(file.read_text())
    assert found == expected
    for kind in expected:
        assert list(found[kind]) == list(expected[kind]), f"the order of {kind} changed"


def test_every_cluster_that_listeners_and_routes_name_exists() -> None:
    for proxy_name in ("redirected", "strict", "explicit"):
        found = resources(proxy_name)
        named = set(_values(found["listeners"], "cluster")) | set(_values(found["routes"], "cluster"))
        assert named <= found["clusters"].keys()


def _values(tree: Any, key: str) -> list[str]:
    if isinstance(tree, dict):
        own = [tree[key]] if isinstance(tree.get(key), str) else []
        return own + [value for child in tree.values() for value in _values(child, key)]
    if isinstance(tree, list):
        return [value for child in tree for value in _values(child, key)]
    return []
