"""The server of the control plane, as configured by the bootstrap file's static cluster."""

from __future__ import annotations

import ssl

from sidecar.config.bootstrap import Ads
from sidecar.config.tls import SanMatchKind, UpstreamTls
from sidecar.grpc.call_stats import ClusterCalls
from sidecar.grpc.target import Target
from sidecar.grpc.tls import over_http2
from sidecar.identity.contexts import TlsContexts


def target(ads: Ads, calls: ClusterCalls) -> Target:
    """Roots and certificates are read from their files here, because mounted files are replaced while the
    process runs. Raises `IdentityError` for a file that cannot be read or is invalid."""
    return Target(
        endpoints=ads.endpoints,
        authority=ads.authority,
        tls=_context(ads.tls) if ads.tls is not None else None,
        server_name=_expected_name(ads.tls) if ads.tls is not None else "",
        connect_timeout_s=ads.connect_timeout_s,
        tcp_keepalive=ads.tcp_keepalive,
        keepalive_interval_s=ads.keepalive_interval_s,
        keepalive_timeout_s=ads.keepalive_timeout_s,
        max_message_bytes=ads.max_receive_message_bytes,
        calls=calls,
    )


def _context(tls: UpstreamTls) -> ssl.SSLContext:
    """The control plane is always verified, by default with the roots of the operating system."""
    context = TlsContexts().client(tls)
    if context.verify_mode is ssl.CERT_NONE:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    return over_http2(context)


def _expected_name(tls: UpstreamTls) -> str:
    """The name that the server's certificate must have: the first exact SAN match, or ``sni``."""
    validation = tls.parameters.validation
    exact = (
        [match.value for match in validation.match_sans if match.kind is SanMatchKind.EXACT]
        if validation
        else []
    )
    return exact[0] if exact else tls.sni
