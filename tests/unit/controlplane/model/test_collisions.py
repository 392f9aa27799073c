from __future__ import annotations

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.model.collisions import PortCollisions
from controlplane.model.service import Protocol, Service
from controlplane.model.store import Store
from tests.support import documents
from tests.support.documents import feed
from tests.support.meshes import port, service

TCP = port(3306, Protocol.TCP)


def warned(*services: Service) -> dict[str, str]:
    collisions = PortCollisions(services)
    found = {each.name: "; ".join(collisions.warnings(each)) for each in services}
    return {name: words for name, words in found.items() if words}


def test_the_oldest_of_two_without_a_virtual_ip_gets_the_port() -> None:
    newer, older = service("a", TCP, creation="2025"), service("b", TCP, creation="2024")
    assert warned(newer, older) == {
        "a": "spec.ports: redirected connections to a.default.svc.cluster.local:3306 go to "
        "b.default.svc.cluster.local: no virtual IP distinguishes them"
    }


def test_http_gets_the_port_whichever_service_is_older() -> None:
    tcp, http = service("a", TCP), service("b", port(3306, Protocol.HTTP))
    assert set(warned(tcp, http)) == {"a"}


@pytest.mark.parametrize(
    "other",
    [
        service("b", TCP, addresses=("10.9.0.1",)),
        service("b", TCP, addresses=("10.9.0.0/16",)),
        service("b", port(3306, Protocol.TLS)),
        service("b", port(3307, Protocol.TCP)),
        service("b", TCP, headless=True),
        service("b", TCP, namespace="other", export_to=(".",)),
    ],
)
def test_services_that_can_be_distinguished_do_not_collide(other: Service) -> None:
    assert warned(service("a", TCP, export_to=(".",)), other) == {}


def test_a_service_that_no_namespace_sees_collides_with_nothing() -> None:
    """Istio's ``~``. It once ended the process."""
    hidden = service("a", TCP, export_to=("~",))
    assert warned(hidden, service("b", TCP), service("c", TCP, export_to=("~",))) == {}


def test_the_warning_of_a_collision_goes_away_with_the_other_service() -> None:
    store = Store(KINDS)
    ports = [{"name": "tcp", "port": 3306}]
    for name in ("a", "b"):
        feed(store, documents.service(name, ports=ports), file=f"{name}.yaml")
    store.build()
    of_a, of_b = store.statuses()
    assert of_a.warnings == ()
    assert ":3306 go to" in of_b.warnings[0]
    store.delete(of_a.key, "a.yaml")
    store.build()
    (of_b,) = store.statuses()
    assert of_b.warnings == ()
