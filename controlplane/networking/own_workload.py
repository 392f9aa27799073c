"""The workload of a proxy, in the metadata of its listeners: a pod does not know its owner."""

from __future__ import annotations

from envoy.config.listener.v3.listener_pb2 import Listener

from controlplane.model.proxy import Proxy
from controlplane.model.snapshot import MeshSnapshot
from protos.node import ISTIO_METADATA, WORKLOAD_METADATA


def own_workload_metadata(snapshot: MeshSnapshot, proxy: Proxy) -> str:
    """``name;namespace;;;``, for the labels of request metrics; empty if the proxy's own claim is used. It
    contains no labels, because they may change: a listener whose metadata changes drains its connections."""
    workload = snapshot.known_workloads.named(proxy.namespace, proxy.workload)
    return f"{workload.owner};{workload.namespace};;;" if workload is not None and workload.owner else ""


def tell_workload(listener: Listener, metadata: str) -> None:
    if metadata:
        listener.metadata.filter_metadata[ISTIO_METADATA].update({WORKLOAD_METADATA: metadata})
