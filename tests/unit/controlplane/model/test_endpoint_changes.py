"""Which new endpoints are more to proxies than load assignments. `test_incremental_pushes_of_a_cluster`
compares that with what is built."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.model.service import EndpointSlice, Registry, ServiceEndpoint
from controlplane.model.snapshot import ResourceKey, SnapshotChange
from controlplane.model.store import Store
from protos.type_urls import CLUSTER
from tests.support.documents import Document, document, feed, service
from tests.support.meshes import workload

WEB = "web.default.svc.cluster.local"
PORTS = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
POLICY = document(
    "PeerAuthentication",
    "plain",
    {"selector": {"matchLabels": {"tls": "no"}}, "portLevelMtls": {"81": {"mode": "DISABLE"}}},
)


def endpoint(name: str, address: str, port: str = "http", **fields: Any) -> ServiceEndpoint:
    pod = workload("web", address, name=name, registry=Registry.KUBERNETES, labels={"app": "web"})
    number = fields.pop("number", {"http": 80, "admin": 81}[port])
    hostname = fields.pop("hostname", "")
    return ServiceEndpoint(
        service_port=port, address=address, port=number, workload=replace(pod, **fields), hostname=hostname
    )


A, B = endpoint("a", "10.0.0.1"), endpoint("b", "10.0.0.2")


def change(
    before: list[ServiceEndpoint], after: list[ServiceEndpoint], *others: Document, **spec: Any
) -> SnapshotChange:
    store = Store(KINDS)
    feed(store, service("web", ports=PORTS, **spec), *others)
    for endpoints in (before, after):
        store.build()
        key = ResourceKey(kind="EndpointSlice", namespace="default", name="web-x")
        store.observe(key, EndpointSlice(hostname=WEB, endpoints=tuple(endpoints)))
    return store.build()[1]


@pytest.mark.parametrize(
    "after",
    [
        endpoint("b", "10.0.0.2", service_account="another"),
        endpoint("b", "10.0.0.2", mesh_tls=False),
        endpoint("b", "10.0.0.2", labels={"app": "web", "tls": "no"}),
        endpoint("b", "10.0.0.2", number=81),
        endpoint("b", "10.0.0.2", port="admin"),
    ],
    ids=["account", "sidecar", "label of a policy", "number that a policy may name", "first of a port"],
)
def test_a_change_of_a_field_that_clusters_read_alters_clusters(after: ServiceEndpoint) -> None:
    """A cluster that does not choose its endpoints speaks TLS only where all of them do."""
    found = change([A, B], [A, after], POLICY)
    assert (found.full, found.types, found.endpoints) == (False, {CLUSTER}, {WEB})


@pytest.mark.parametrize(
    "after",
    [
        [A],
        [A, B, endpoint("c", "10.0.0.3")],
        [A, endpoint("b", "10.0.0.2", healthy=False)],
        [A, endpoint("b", "10.0.0.2", labels={"app": "web", "version": "v2"})],
        [A, endpoint("b", "10.0.0.2", locality="r/z")],
    ],
    ids=["one less", "one more", "not ready", "another label", "locality"],
)
def test_a_change_of_a_field_that_no_cluster_reads_alters_endpoints_only(
    after: list[ServiceEndpoint],
) -> None:
    found = change([A, B], after, POLICY)
    assert (found.full, found.types, found.endpoints, found.addresses) == (False, set(), {WEB}, set())


def test_if_one_endpoint_has_no_sidecar_the_tls_of_the_others_does_not_matter() -> None:
    plain = endpoint("c", "10.0.0.3", mesh_tls=False)
    assert change([A, plain], [A, plain, replace(plain, address="10.0.0.4")], POLICY).types == set()
    labelled = endpoint("a", "10.0.0.1", labels={"app": "web", "tls": "no"})
    assert change([A, plain], [labelled, plain], POLICY).types == set()


def test_each_declaration_of_a_host_has_the_identities_of_its_own_endpoints() -> None:
    entry: Document = {
        "hosts": ["vm.example.com"],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
    }
    one, two = (
        document(
            "ServiceEntry",
            app,
            {
                **entry,
                "ports": [{"number": number, "name": "tcp"}],
                "workloadSelector": {"labels": {"app": app}},
            },
        )
        for app, number in (("one", 80), ("two", 81))
    )
    store = Store(KINDS)

    def vm(name: str, app: str, account: str) -> Document:
        spec = {"address": "10.9.9.9", "labels": {"app": app}, "serviceAccount": account}
        return document("WorkloadEntry", name, spec)

    feed(store, one, two, vm("a", "one", "a"), vm("b", "one", "b"), vm("c", "two", "b"))
    store.build()
    feed(store, vm("b", "one", "a"))
    assert store.build()[1].types == {CLUSTER}


NAMED = endpoint("a", "10.0.0.1", hostname="web-0")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (A, endpoint("a", "10.0.0.7"), True),
        (A, endpoint("a", "10.0.0.1", labels={"app": "web", "version": "v2"}), False),
        (A, endpoint("a", "10.0.0.1", healthy=False), False),
        (NAMED, A, True),
        (NAMED, endpoint("a", "10.0.0.1", hostname="web-0", labels={"app": "web", "version": "v2"}), True),
        (NAMED, endpoint("a", "10.0.0.1", hostname="web-0", locality="r/z"), True),
        (NAMED, endpoint("a", "10.0.0.1", hostname="web-0", number=8080), True),
        (NAMED, endpoint("a", "10.0.0.1", hostname="web-0", healthy=False), False),
    ],
    ids=["address", "label", "not ready", "host", "label of a host", "locality", "number", "host not ready"],
)
def test_headless_services_report_changes_outside_of_load_assignments(
    before: ServiceEndpoint, after: ServiceEndpoint, *, told: bool
) -> None:
    """The host of a single endpoint has a cluster that holds all of it."""
    found = change([before], [after], clusterIP="None")
    assert found.addresses == ({WEB} if told else set())
