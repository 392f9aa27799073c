from __future__ import annotations

from typing import Any

import pytest

from controlplane.injection.strategic_merge import merge


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 3}, "e": 4}, {"a": 1, "b": {"c": 3, "d": 2}, "e": 4}),
        ({"a": 1, "b": {"c": 1}}, {"a": None, "b": {"c": None}}, {"b": {}}),
        ({"a": None}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
        ({"args": ["a"]}, {"args": ["b"]}, {"args": ["b"]}),
        ({"containers": None}, {"containers": [{"name": "a"}]}, {"containers": [{"name": "a"}]}),
        (
            {"containers": [{"name": "a", "x": 1}, {"name": "b"}]},
            {"containers": [{"name": "c"}, {"name": "a", "y": 2}]},
            {"containers": [{"name": "a", "x": 1, "y": 2}, {"name": "b"}, {"name": "c"}]},
        ),
        (
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "valueFrom": {}}]},
            {"env": [{"name": "A", "valueFrom": {}}]},
        ),
        (
            {"volumes": [{"name": "a", "emptyDir": {}}]},
            {"volumes": [{"name": "a", "configMap": {}}]},
            {"volumes": [{"name": "a", "configMap": {}}]},
        ),
        (
            {"ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]},
            {"ports": [{"containerPort": 53, "protocol": "TCP", "name": "dns"}]},
            {
                "ports": [
                    {"containerPort": 53, "protocol": "TCP", "name": "dns"},
                    {"containerPort": 53, "protocol": "UDP"},
                ]
            },
        ),
        (
            {"volumeMounts": [{"name": "a", "mountPath": "/x"}]},
            {"volumeMounts": [{"name": "b", "mountPath": "/x", "readOnly": True}]},
            {"volumeMounts": [{"name": "b", "mountPath": "/x", "readOnly": True}]},
        ),
        (
            {"preStop": {"exec": {"command": ["a"]}}},
            {"preStop": {"sleep": {"seconds": 1}}},
            {"preStop": {"sleep": {"seconds": 1}}},
        ),
        (
            {"readinessProbe": {"httpGet": {"port": 1, "path": "/"}, "periodSeconds": 2}},
            {"readinessProbe": {"httpGet": {"port": 3}}},
            {"readinessProbe": {"httpGet": {"port": 3, "path": "/"}, "periodSeconds": 2}},
        ),
    ],
)
def test_objects_and_lists_are_merged_as_kubernetes_does(base: Any, patch: Any, merged: Any) -> None:
    before = repr((base, patch))
    assert merge(base, patch) == merged
    assert repr((base, patch)) == before
