"""Istio's HTTP filter ``istio.metadata_exchange``: ``io.istio.http.peer_metadata.Config``."""

from __future__ import annotations

from sidecar.config.http_filters import PeerMetadataConfig, PeerMethod
from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder
from sidecar.xds.decode.support import NO_READER, support
from sidecar.xds.decode.view import View

_CONFIG = "io.istio.http.peer_metadata.Config"
_METHODS = {method.value: method for method in PeerMethod}


def _decode(view: View) -> PeerMetadataConfig:
    return PeerMetadataConfig(
        downstream_discovery=_discovery(view, "downstream_discovery"),
        upstream_discovery=_discovery(view, "upstream_discovery"),
        downstream_propagation=_propagation(view, "downstream_propagation"),
        upstream_propagation=_propagation(view, "upstream_propagation"),
        skip_external_clusters=any(
            method.get("istio_headers").message.skip_external_clusters
            for method in view.each("upstream_propagation")
        ),
    )


def _discovery(view: View, field: str) -> tuple[PeerMethod, ...]:
    """Without ``workload_discovery``: endpoints have their workload from the control plane anyway, and a
    client without a certificate has none that could be believed."""
    methods = []
    for method in view.each(field):
        kind = method.which("method_specifier")
        if not kind:
            raise method.error("has no method")
        if kind == "baggage" and field == "upstream_discovery":
            raise method.error("is not supported for hosts, which send none", "baggage")
        if kind != "workload_discovery":
            methods.append(_METHODS[kind])
    return tuple(methods)


def _propagation(view: View, field: str) -> tuple[PeerMethod, ...]:
    methods = []
    for method in view.each(field):
        kind = method.which("method_specifier")
        if not kind:
            raise method.error("has no method")
        methods.append(_METHODS[kind])
    return tuple(methods)


DECODER = HttpFilterDecoder(
    type_name=_CONFIG,
    table={
        _CONFIG: support(
            "downstream_discovery upstream_discovery downstream_propagation upstream_propagation",
            shared_with_upstream=NO_READER,
        ),
        f"{_CONFIG}.DiscoveryMethod": support("istio_headers baggage workload_discovery"),
        f"{_CONFIG}.PropagationMethod": support("istio_headers baggage"),
        f"{_CONFIG}.IstioHeaders": support("skip_external_clusters"),
        f"{_CONFIG}.Baggage": support(),
        f"{_CONFIG}.WorkloadDiscovery": support(),
    },
    decode=_decode,
)
