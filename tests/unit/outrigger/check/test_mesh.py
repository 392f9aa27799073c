"""What `outrigger check` says of proxies and of resources."""

from __future__ import annotations

from typing import Any

import pytest

from outrigger.check.finding import State
from outrigger.check.mesh import is_meshed, resource_findings, stream_findings


def stream(version: str = "outrigger 1.2.3", **types: dict[str, str]) -> dict[str, Any]:
    synced = {"cds": {"state": "SYNCED", "rejection": ""}}
    return {"namespace": "shop", "workload": "cart-1", "version": version, "types": {**synced, **types}}


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        (stream(), []),
        (
            stream(lds={"state": "ERROR", "rejection": "no such filter"}),
            [(State.PROBLEM, "rejects lds: no such filter")],
        ),
        (
            stream(rds={"state": "STALE", "rejection": ""}),
            [(State.WARNING, "has not acknowledged rds yet")],
        ),
        (
            stream("outrigger 1.2.2"),
            [(State.WARNING, "its sidecar is 1.2.2, this command 1.2.3: restart its workload")],
        ),
        (stream("envoy 1.36.0"), []),
        (stream("unknown"), []),
    ],
)
def test_a_proxy_that_is_not_synchronised_or_out_of_date_is_found(
    proxy: dict[str, Any], expected: list[tuple[State, str]]
) -> None:
    found = list(stream_findings(proxy, "1.2.3"))
    assert [(each.state, each.message) for each in found] == expected
    assert {each.subject for each in found} <= {"shop/cart-1"}


def pod(annotations: dict[str, str] | None, state: str) -> dict[str, Any]:
    status = {"initContainerStatuses": [{"name": "outrigger-sidecar", "state": {state: {}}}]}
    return {"metadata": {"annotations": annotations}, "status": status}


@pytest.mark.parametrize(
    ("annotations", "state", "meshed"),
    [
        ({"istio.io/rev": "default"}, "running", True),
        ({"istio.io/rev": "default"}, "waiting", False),
        ({"istio.io/rev": "canary"}, "running", False),
        (None, "running", False),
    ],
)
def test_a_pod_belongs_to_the_revision_that_injected_it(
    annotations: dict[str, str] | None, state: str, meshed: bool
) -> None:
    assert is_meshed(pod(annotations, state), "default") == meshed


def test_a_pod_without_a_status_is_not_meshed() -> None:
    assert not is_meshed({"metadata": {"annotations": {"istio.io/rev": "default"}}}, "default")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, [(State.WARNING, "the control plane has not read this generation yet")]),
        ({"observedGeneration": 1}, [(State.WARNING, "the control plane has not read this generation yet")]),
        ({"observedGeneration": 2, "conditions": [{"type": "Accepted", "status": "True"}]}, []),
        (
            {
                "observedGeneration": "2",
                "conditions": [
                    {
                        "type": "Accepted",
                        "status": "False",
                        "reason": "Invalid",
                        "message": "no hosts",
                    },
                    {"type": "Programmed", "status": "False", "reason": "Pending", "message": "2 proxies"},
                ],
            },
            [(State.PROBLEM, "Invalid: no hosts"), (State.WARNING, "Pending: 2 proxies")],
        ),
    ],
)
def test_a_resource_that_is_not_in_force_is_found(
    status: dict[str, Any] | None, expected: list[tuple[State, str]]
) -> None:
    metadata = {"namespace": "shop", "name": "cart", "generation": 2}
    found = list(resource_findings("VirtualService", {"metadata": metadata, "status": status}))
    assert [(each.state, each.message) for each in found] == expected
    assert {each.subject for each in found} <= {"VirtualService shop/cart"}
