"""Properties that hold for every pod: it is injected or refused with a reason, a second injection changes
nothing, and the user's containers keep everything that is not a probe."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.errors import InjectionError
from controlplane.injection.injector import inject
from tests.support.injection import request

_NAMES = st.sampled_from(["web", "db", "cache", "outrigger-sidecar", "outrigger-init", "a.b", "$(x)$$"])
_PORTS = st.integers(1, 65535) | st.sampled_from(["http", "none", "8080", "$"])
_HANDLERS = st.one_of(
    st.fixed_dictionaries(
        {"httpGet": st.fixed_dictionaries({"port": _PORTS}, optional={"path": st.text(max_size=9)})}
    ),
    st.fixed_dictionaries({"tcpSocket": st.fixed_dictionaries({"port": _PORTS})}),
    st.fixed_dictionaries({"grpc": st.fixed_dictionaries({"port": st.integers(1, 65535)})}),
    st.just({"exec": {"command": ["true"]}}),
    st.just({}),
)
_CONTAINERS = st.fixed_dictionaries(
    {"name": _NAMES},
    optional={
        "image": st.sampled_from(["auto", "example.com/x:1"]),
        "ports": st.none()
        | st.lists(st.builds(lambda n: {"containerPort": n, "name": "http"}, st.integers(1, 9))),
        "env": st.lists(st.builds(lambda n: {"name": n, "value": n}, st.sampled_from("AB"))),
        "securityContext": st.none() | st.fixed_dictionaries({"runAsUser": st.integers(0, 5000)}),
        "readinessProbe": st.none() | _HANDLERS,
        "livenessProbe": _HANDLERS,
        "startupProbe": _HANDLERS,
        "lifecycle": st.none()
        | st.fixed_dictionaries({}, optional={"preStop": _HANDLERS, "postStart": _HANDLERS}),
    },
)
_ANNOTATIONS = st.dictionaries(
    st.sampled_from(
        [
            "sidecar.istio.io/interceptionMode",
            "sidecar.istio.io/status",
            "sidecar.istio.io/nativeSidecar",
            "sidecar.istio.io/proxyCPU",
            "status.sidecar.istio.io/port",
            "prometheus.io/port",
            "prometheus_io_scrape",
            "proxy.istio.io/config",
            "proxy.istio.io/overrides",
            "inject.istio.io/templates",
            "outrigger.dev/proxy",
        ]
    ),
    st.sampled_from(
        [
            "",
            "0",
            "true",
            "false",
            "TPROXY",
            "NONE",
            "9090",
            "envoy",
            "gateway",
            "{}",
            '{"containers":["web"],"prometheus":{}}',
            '{"containers":[{"name":"db","image":"x"}]}',
            "holdApplicationUntilProxyStarts: true",
        ]
    )
    | st.text(max_size=5),
    max_size=4,
)
_PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"annotations": st.none() | _ANNOTATIONS}, optional={"labels": st.none() | st.just({"app": "x"})}
        ),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(_CONTAINERS, max_size=3, unique_by=lambda c: c["name"])},
            optional={
                "initContainers": st.none()
                | st.lists(_CONTAINERS, max_size=2, unique_by=lambda c: c["name"]),
                "volumes": st.none() | st.just([{"name": "own", "emptyDir": {}}]),
                "dnsPolicy": st.sampled_from(["Default", "ClusterFirst"]),
            },
        ),
    }
)
_PROBES = ("readinessProbe", "livenessProbe", "startupProbe", "lifecycle")


def without_probes(container: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in container.items() if key not in _PROBES}


def user_containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    return [without_probes(c) for c in containers if not c["name"].startswith("outrigger-")]


@given(pod=_PODS, native=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_pod_is_injected_or_refused(pod: dict[str, Any], native: bool) -> None:
    before = copy.deepcopy(pod)
    asked = request(native_sidecars=native)
    try:
        once = inject(pod, asked)
    except InjectionError:
        return
    finally:
        assert pod == before
    json.dumps(once.pod)
    assert inject(once.pod, asked).pod == once.pod
    if "sidecar.istio.io/status" not in (pod["metadata"]["annotations"] or {}):
        assert user_containers(once.pod) == user_containers(pod)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            ["metadata", "spec", "containers", "name", "env", "httpGet", "annotations", "labels", "port"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(value=_JSON)
@settings(max_examples=200, deadline=None)
def test_any_json_value_is_injected_or_refused(value: Any) -> None:
    with contextlib.suppress(InjectionError):
        inject(value, request())
