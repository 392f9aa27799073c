from __future__ import annotations

import pytest

from controlplane.model.proxy import InterceptionMode, Proxy
from controlplane.networking.build_cache import BuildCache
from controlplane.xds.generator import MeshGenerator
from tests.support.meshes import grpc_proxy, mesh, service, sidecar_proxy

KAFKA = "kafka.default.svc.cluster.local"


@pytest.mark.parametrize(
    ("proxy", "dials"),
    [
        (sidecar_proxy(), True),
        (sidecar_proxy(interception_mode=InterceptionMode.NONE), True),
        (sidecar_proxy(namespace="other"), False),
        (grpc_proxy(), False),
    ],
)
def test_addresses_of_headless_services_are_sent_to_sidecars_that_import_them(
    proxy: Proxy, dials: bool
) -> None:
    snapshot = mesh(
        (service("kafka", headless=True), []),
        sidecars={"other/none": {"egress": [{"hosts": ["./*"]}]}},
    )
    assert (
        MeshGenerator(BuildCache()).dials(snapshot, proxy, {KAFKA, "another.default.svc.cluster.local"})
        is dials
    )
    assert not MeshGenerator(BuildCache()).dials(snapshot, proxy, {"another.default.svc.cluster.local"})
