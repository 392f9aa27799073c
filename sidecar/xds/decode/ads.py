"""``dynamic_resources``: the aggregated stream, and the static cluster of the control plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sidecar.config.bootstrap import Ads, AdsVariant
from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.codec_type import CodecType
from sidecar.config.endpoint import Endpoint
from sidecar.config.http2 import Http2Keepalive
from sidecar.config.snapshot import Snapshot
from sidecar.config.tls import Secret, UpstreamTls, Validation
from sidecar.xds.decode.config_source import check_aggregated
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.view import View

_KEEPALIVE_INTERVAL_S: Final = 30.0
_KEEPALIVE_TIMEOUT_S: Final = 10.0
_MAX_RECEIVE_MESSAGE_BYTES: Final = 256 * 1024 * 1024


TABLE: Final[SupportTable] = {
    "envoy.config.bootstrap.v3.Bootstrap.DynamicResources": support("lds_config cds_config ads_config"),
    "envoy.config.core.v3.ApiConfigSource": support(
        "api_type transport_api_version grpc_services",
        set_node_on_first_message_only="the node is sent once a stream, which every server must accept",
        rate_limit_settings="requests answer responses, and reconnects back off",
    ),
    "envoy.config.core.v3.GrpcService": support(
        "envoy_grpc initial_metadata", timeout="the stream does not end"
    ),
    "envoy.config.core.v3.GrpcService.EnvoyGrpc": support(
        "cluster_name authority max_receive_message_length"
    ),
}


def decode_ads(dynamic: View, static: Snapshot) -> Ads | None:
    """None if the bootstrap file has no ``ads_config``. ``static`` is the decoded ``static_resources``."""
    for field in ("lds_config", "cds_config"):
        if dynamic.has(field):
            check_aggregated(dynamic.get(field))
    source = dynamic.find("ads_config")
    if source is None:
        if dynamic.has("lds_config") or dynamic.has("cds_config"):
            raise dynamic.error("is required by lds_config and cds_config", "ads_config")
        return None
    if source.enum_name("transport_api_version") != "V3":
        raise source.error("only V3 is supported", "transport_api_version")
    service = _grpc_service(source)
    target = service.get("envoy_grpc")
    cluster = _cluster(target, static)
    keepalive = cluster.http2.connection_keepalive or Http2Keepalive()
    return Ads(
        variant=_variant(source),
        cluster_name=cluster.name,
        endpoints=_endpoints(target, cluster),
        authority=target.message.authority,
        tls=_resolve(target, cluster.tls, static.secrets),
        metadata=_metadata(service),
        connect_timeout_s=cluster.connect_timeout_s,
        tcp_keepalive=cluster.tcp_keepalive,
        keepalive_interval_s=keepalive.interval_s or _KEEPALIVE_INTERVAL_S,
        keepalive_timeout_s=keepalive.timeout_s or _KEEPALIVE_TIMEOUT_S,
        max_receive_message_bytes=target.wrapped("max_receive_message_length", _MAX_RECEIVE_MESSAGE_BYTES),
        listeners=dynamic.has("lds_config"),
        clusters=dynamic.has("cds_config"),
    )


def _variant(source: View) -> AdsVariant:
    name = source.enum_name("api_type")
    if name not in {variant.value for variant in AdsVariant}:
        raise source.error(f"{name} is not supported; use GRPC or DELTA_GRPC", "api_type")
    return AdsVariant(name)


def _grpc_service(source: View) -> View:
    services = list(source.each("grpc_services"))
    if len(services) != 1:
        raise source.error(f"has {len(services)} services; exactly one is supported", "grpc_services")
    return services[0]


def _cluster(target: View, static: Snapshot) -> ClusterConfig:
    name = target.message.cluster_name
    cluster = static.clusters.get(name)
    if cluster is None:
        raise target.error(f"the static cluster {name!r} does not exist", "cluster_name")
    if cluster.discovery in {Discovery.EDS, Discovery.ORIGINAL_DST}:
        raise target.error(
            f"{name!r} is of type {cluster.discovery.value}, which has no addresses", "cluster_name"
        )
    if cluster.proxy_protocol is not None:
        raise target.error(f"{name!r} has a PROXY header, which xDS servers do not expect", "cluster_name")
    if cluster.codec_type is not CodecType.HTTP2:
        raise target.error(f"{name!r} must have http2_protocol_options: gRPC requires HTTP/2", "cluster_name")
    return cluster


def _endpoints(target: View, cluster: ClusterConfig) -> tuple[Endpoint, ...]:
    endpoints = cluster.load_assignment.endpoints if cluster.load_assignment else ()
    if not endpoints:
        raise target.error(f"{cluster.name!r} has no endpoints", "cluster_name")
    return endpoints


def _metadata(service: View) -> tuple[tuple[str, str], ...]:
    return tuple((header.key.lower(), header.value) for header in service.message.initial_metadata)


def _resolve(target: View, tls: UpstreamTls | None, secrets: Mapping[str, Secret]) -> UpstreamTls | None:
    """Replaces the names of static secrets by their contents: other secrets are discovered only after the
    stream is open."""
    if tls is None:
        return None
    parameters = tls.parameters
    certificate, validation = parameters.certificate, parameters.validation
    if parameters.certificate_secret is not None:
        certificate = _secret(target, parameters.certificate_secret, secrets).certificate
    if parameters.validation_secret is not None:
        roots = _secret(target, parameters.validation_secret, secrets).validation or Validation()
        added = validation.match_sans if validation else ()
        validation = Validation(trusted_ca=roots.trusted_ca, match_sans=roots.match_sans + added)
    resolved = replace(
        parameters,
        certificate=certificate,
        certificate_secret=None,
        validation=validation,
        validation_secret=None,
    )
    return replace(tls, parameters=resolved)


def _secret(target: View, name: str, secrets: Mapping[str, Secret]) -> Secret:
    if name not in secrets:
        reason = f"its secret {name!r} must be static: other secrets are discovered over the stream"
        raise target.error(reason, "cluster_name")
    return secrets[name]
