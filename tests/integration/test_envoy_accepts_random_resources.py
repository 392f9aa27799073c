"""Whatever our models let pass a real Envoy takes, and our own sidecar: random resources, with interception
and without."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from controlplane.kinds.registry import KINDS
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy import InterceptionMode
from controlplane.model.status import State
from controlplane.model.store import Store
from controlplane.resources.core import ServicePort
from controlplane.resources.destination_rule import Subset
from controlplane.resources.service_entry import ServicePort as EntryPort
from tests.support.acceptance import assert_envoy_accepts, assert_sidecar_accepts, built
from tests.support.documents import document, feed
from tests.support.meshes import sidecar_proxy
from tests.support.random_resources import ResourceMaker

SERVICES = [f"s{number}" for number in range(30)]
EXTERNAL = [f"e{number}.example.com" for number in range(10)]
PORTS = [80, 443, 3306, 9080]
SUBSETS = ["v1", "v2"]


def random_mesh(seed: int, folder: Path) -> Store:
    """Every kind of resource, referring to each other. What contradicts the rest is quarantined."""
    certificate = trustme.CA().issue_cert("client.example.com")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    pem = [str(folder / "client.pem")]
    maker = ResourceMaker(
        seed,
        host=[*SERVICES, *EXTERNAL],
        hosts=["*/*", "./*", "*/*.example.com"],
        port=PORTS,
        subset=SUBSETS,
        number=PORTS,
        client_certificate=pem,
        private_key=pem,
        ca_certificates=pem,
    )
    store = Store(KINDS, MeshConfig(proxy_http_port=15007))

    def add(kind: str, name: str, by: ResourceMaker = maker, **fixed: object) -> None:
        feed(store, document(kind, name, by.spec(KINDS[kind].spec, **fixed)), file=f"{kind}-{name}.yaml")

    # Ports and subsets of every number and name, so that few references dangle.
    for name in SERVICES:
        add("Service", name, ports=[{**maker.spec(ServicePort), "name": f"p{n}", "port": n} for n in PORTS])
    for name in EXTERNAL:
        ports = [{**maker.spec(EntryPort), "name": f"p{n}", "number": n} for n in PORTS]
        add("ServiceEntry", name, hosts=[name, f"*.{name}"], ports=ports)
    for name in (*SERVICES, *EXTERNAL):
        add("DestinationRule", name, host=name, subsets=[maker.spec(Subset, name=each) for each in SUBSETS])
        hosts = [name, f"*.{name}"] if name in EXTERNAL else [name]
        routing = maker.with_pools(sni_hosts=hosts)
        add("VirtualService", name, routing, hosts=hosts)
    for number in range(40):
        add("WorkloadEntry", f"w{number}")
    for number in range(5):
        add("PeerAuthentication", f"p{number}")
    add("Sidecar", "default")
    return store


@pytest.mark.parametrize("interception", [InterceptionMode.REDIRECT, InterceptionMode.NONE])
@pytest.mark.parametrize("seed", range(2))
def test_envoy_and_our_sidecar_accept_all_valid_resources(
    seed: int, interception: InterceptionMode, tmp_path: Path
) -> None:
    store = random_mesh(seed, tmp_path)
    snapshot, _ = store.build()
    applied = sum(status.state is State.APPLIED for status in store.statuses())
    assert applied > len(store.statuses()) / 2
    resources = built(snapshot, sidecar_proxy("a", interception_mode=interception))
    assert_envoy_accepts(resources, tmp_path)
    assert_sidecar_accepts(resources)
