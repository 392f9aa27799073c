from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.errors import InjectionError
from tests.support.injection import container, environment, injected, injection, pod

_HTTP = {"path": "/ready", "port": 8080}


def probers(given: Any, name: str = "outrigger-sidecar") -> Any:
    return json.loads(environment(given, name)["OUTRIGGER_APP_PROBERS"])


def rewritten(path: str, port: int = 15020) -> Any:
    return {"path": f"/app-health/web/{path}", "port": port, "scheme": "HTTP"}


@pytest.mark.parametrize("handler", [{"httpGet": _HTTP}, {"tcpSocket": {"port": 1}}, {"grpc": {"port": 1}}])
@pytest.mark.parametrize(
    ("probe", "path"),
    [("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz")],
)
def test_a_probe_asks_the_proxy_and_keeps_its_numbers(handler: Any, probe: str, path: str) -> None:
    numbers = {"periodSeconds": 3, "timeoutSeconds": 2, "failureThreshold": 9}
    result = injected(pod(container={probe: {**handler, **numbers}}))
    assert container(result, "web")[probe] == {"httpGet": rewritten(path), **numbers}
    assert probers(result) == {f"/app-health/web/{path}": {**handler, "timeoutSeconds": 2}}


@pytest.mark.parametrize(("hook", "path"), [("postStart", "poststartz"), ("preStop", "prestopz")])
def test_a_hook_asks_the_proxy(hook: str, path: str) -> None:
    result = injected(pod(container={"lifecycle": {hook: {"httpGet": _HTTP}}}))
    assert container(result, "web")["lifecycle"] == {hook: {"httpGet": rewritten(path)}}


def test_a_hook_that_runs_before_the_proxy_is_not_rewritten() -> None:
    given = pod(container={"lifecycle": {"postStart": {"httpGet": _HTTP}}})
    result = injected(given, native_sidecars=False)
    assert container(result, "web") == container(given, "web")


@pytest.mark.parametrize("handler", [{"exec": {"command": ["true"]}}, {"sleep": {"seconds": 1}}])
def test_an_action_inside_of_the_container_stays(handler: Any) -> None:
    given = pod(container={"lifecycle": {"preStop": handler}, "livenessProbe": {"exec": {"command": ["x"]}}})
    assert container(injected(given), "web") == container(given, "web")


def test_a_named_port_is_resolved_in_the_ports_of_its_container() -> None:
    ports = [{"name": "admin", "containerPort": 9000}, {"name": "http", "containerPort": 8080}]
    result = injected(pod(container={"ports": ports, "readinessProbe": {"tcpSocket": {"port": "http"}}}))
    assert probers(result)["/app-health/web/readyz"] == {"tcpSocket": {"port": 8080}}
    result = injected(pod(container={"readinessProbe": {"tcpSocket": {"port": "8080"}}}))
    assert probers(result)["/app-health/web/readyz"] == {"tcpSocket": {"port": 8080}}


def test_a_probe_of_an_unknown_port_stays_with_a_warning() -> None:
    given = pod(container={"readinessProbe": {"httpGet": {"path": "/", "port": "none"}}})
    result = injection(given)
    assert container(result.pod, "web") == container(given, "web")
    assert "OUTRIGGER_APP_PROBERS" not in environment(result.pod)
    assert "a probe of port 'none' is not rewritten" in result.warnings[0]


def test_the_request_of_a_probe_travels_whole_and_unexpanded() -> None:
    probe = {
        **_HTTP,
        "scheme": "HTTPS",
        "host": "web.example",
        "httpHeaders": [{"name": "X", "value": "$(POD_NAME)$"}],
    }
    result = injected(pod(container={"livenessProbe": {"httpGet": probe}}))
    assert container(result, "web")["livenessProbe"]["httpGet"] == rewritten("livez")
    text = environment(result)["OUTRIGGER_APP_PROBERS"]
    assert "$$(POD_NAME)$$" in text
    assert json.loads(text.replace("$$", "$"))["/app-health/web/livez"] == {"httpGet": probe}
    assert injected(result) == result


def test_probers_of_two_rounds_are_merged() -> None:
    first = injected(pod(container={"readinessProbe": {"httpGet": _HTTP}}))
    first["spec"]["containers"].append({"name": "late", "livenessProbe": {"tcpSocket": {"port": 7}}})
    second = injected(first)
    assert probers(second) == {
        "/app-health/web/readyz": {"httpGet": _HTTP},
        "/app-health/late/livez": {"tcpSocket": {"port": 7}},
    }


def test_a_probe_that_was_rewritten_by_hand_stays() -> None:
    given = pod(container={"readinessProbe": {"httpGet": rewritten("readyz")}})
    result = injected(given)
    assert container(result, "web") == container(given, "web")


def test_the_agent_serves_the_probes_beside_an_envoy() -> None:
    given = pod(
        annotations={"outrigger.dev/proxy": "envoy", "status.sidecar.istio.io/port": "15999"},
        container={"readinessProbe": {"httpGet": _HTTP}},
    )
    result = injected(given)
    assert container(result, "web")["readinessProbe"]["httpGet"] == rewritten("readyz", 15999)
    assert "/app-health/web/readyz" in probers(result, "outrigger-agent")
    assert "OUTRIGGER_APP_PROBERS" not in environment(result)


@pytest.mark.parametrize("stored", ["{", "[]", '{"/app-health/web/readyz": 1}'])
def test_invalid_stored_probers_refuse_the_pod(stored: str) -> None:
    result = injected(pod(container={"readinessProbe": {"httpGet": _HTTP}}))
    for variable in container(result)["env"]:
        if variable["name"] == "OUTRIGGER_APP_PROBERS":
            variable["value"] = stored
    with pytest.raises(InjectionError, match="OUTRIGGER_APP_PROBERS of outrigger-sidecar"):
        injected(result)
