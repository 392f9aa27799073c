"""The gRPC channel to the control plane, configured by the bootstrap file's static cluster."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import grpc.aio

from sidecar.config.bootstrap import Ads
from sidecar.config.endpoint import SocketAddress
from sidecar.config.tls import DataSource, SanMatchKind, UpstreamTls
from sidecar.identity.material import read_source


def open_channel(ads: Ads, address: SocketAddress) -> grpc.aio.Channel:
    """The channel connects when it is first used. Roots and certificates are read from their files here,
    because mounted files are replaced while the process runs. Raises `IdentityError` for a file that cannot
    be read."""
    options: dict[str, str | int] = {
        "grpc.keepalive_time_ms": int(ads.keepalive_interval_s * 1000),
        "grpc.keepalive_timeout_ms": int(ads.keepalive_timeout_s * 1000),
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
        "grpc.max_receive_message_length": ads.max_receive_message_bytes,
        # gRPC's minimum back-off is also the minimum time that a connection attempt gets.
        "grpc.min_reconnect_backoff_ms": int(ads.connect_timeout_s * 1000),
        # An HTTP proxy in the environment is meant for the application.
        "grpc.enable_http_proxy": 0,
        # Each stream gets a new connection, and `XdsClient` waits between tries.
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_retries": 0,
    }
    if ads.authority:
        options["grpc.default_authority"] = ads.authority
    if ads.tls is None:
        return grpc.aio.insecure_channel(str(address), options=_listed(options))
    name = _expected_name(ads.tls)
    if name:
        options["grpc.ssl_target_name_override"] = name
    return grpc.aio.secure_channel(str(address), _credentials(ads.tls), options=_listed(options))


def _listed(options: Mapping[str, str | int]) -> list[tuple[str, str | int]]:
    return list(options.items())


def _credentials(tls: UpstreamTls) -> grpc.ChannelCredentials:
    validation, certificate = tls.parameters.validation, tls.parameters.certificate
    return grpc.ssl_channel_credentials(
        root_certificates=_content(validation.trusted_ca if validation else None),
        private_key=_content(certificate.private_key if certificate else None),
        certificate_chain=_content(certificate.certificate_chain if certificate else None),
    )


def _content(source: DataSource | None) -> bytes | None:
    return read_source(source) if source is not None else None


def _expected_name(tls: UpstreamTls) -> str:
    """The name that the server's certificate must have. gRPC always checks one; Envoy checks the configured
    SAN matches, and sends ``sni``."""
    validation = tls.parameters.validation
    exact = (
        [match.value for match in validation.match_sans if match.kind is SanMatchKind.EXACT]
        if validation
        else []
    )
    return exact[0] if exact else tls.sni
