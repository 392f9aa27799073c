"""Bootstrap documents for the tests of `controlplane.injection.bootstrap_document` and of the command."""

from __future__ import annotations

from typing import Any

from controlplane.injection.bootstrap_document import Address, Bootstrap
from protos.node import NodeId

NODE = NodeId(
    proxy_type="sidecar",
    ip="10.0.0.1",
    workload="reviews-v1",
    namespace="bookinfo",
    dns_domain="bookinfo.svc.cluster.local",
)


def bootstrap(**changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "node_id": NODE,
        "xds_address": Address(host="10.1.1.1", port=15010),
    } | changes
    return Bootstrap(**settings).document()
