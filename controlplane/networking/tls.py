"""The TLS configuration of proxies: between sidecars, and to origins of a DestinationRule.

Certificates and roots of the mesh are referenced, never sent: a proxy finds them by the names of secrets in
`protos.node`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2 import RawBuffer
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from controlplane.model.service import Service
from controlplane.networking.messages import extension
from controlplane.resources.destination_rule import ClientTLSSettings
from protos.node import MESH_ALPN, TRUST_BUNDLE_SECRET, WORKLOAD_CERTIFICATE_SECRET

_TLS: Final = "envoy.transport_sockets.tls"
RAW_BUFFER: Final = extension("envoy.transport_sockets.raw_buffer", RawBuffer())

# The default maximum of Envoy's clients is TLS 1.2, so both ends of the range are needed.
_MESH_VERSIONS: Final = {
    "tls_minimum_protocol_version": "TLSv1_3",
    "tls_maximum_protocol_version": "TLSv1_3",
}
_ORIGIN_VERSIONS: Final = {
    "tls_minimum_protocol_version": "TLSv1_2",
    "tls_maximum_protocol_version": "TLSv1_3",
}

# All names that clients of an Istio mesh offer: each identifies TLS of the mesh, not of the application.
MESH_ALPNS: Final = (
    MESH_ALPN,
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
)

# The system's roots on Debian and its derivatives.
SYSTEM_ROOTS: Final = "/etc/ssl/certs/ca-certificates.crt"


def mesh_client_tls(sni: str, identities: Iterable[str], *, http2: bool) -> dict[str, Any]:
    """Mutual TLS to a sidecar, which must prove one of ``identities`` (SPIFFE ids; empty: any that the trust
    bundle verifies). ``http2``: the cluster speaks HTTP/2. One that follows its clients does not offer it:
    a host must not choose one version for all requests, and recognizes each by its first bytes."""
    context = UpstreamTlsContext(
        common_tls_context=_mesh_context(
            alpn=(MESH_ALPN, "h2") if http2 else (MESH_ALPN,),
            subject_alt_names=[_exact_name(identity) for identity in sorted(identities)],
        ),
        sni=sni,
    )
    return extension(_TLS, context)


def mesh_server_tls(trust_domain: str, *, http: bool) -> dict[str, Any]:
    """Mutual TLS on the server side of a sidecar: the client must be of this trust domain. On a port for HTTP
    the client chooses the version, by ALPN or, if it offers only the mesh's own names, by its first bytes: a
    proxy that has agreed to such a name (Envoy) would take all requests for HTTP/1.1."""
    of_trust_domain = {"san_type": "URI", "matcher": {"prefix": f"spiffe://{trust_domain}/"}}
    context = DownstreamTlsContext(
        common_tls_context=_mesh_context(
            alpn=("h2", "http/1.1") if http else (MESH_ALPN,),
            subject_alt_names=[of_trust_domain],
        ),
        require_client_certificate={"value": True},
    )
    return extension(_TLS, context)


def origin_tls(settings: ClientTLSSettings, service: Service, *, http2: bool) -> dict[str, Any]:
    """TLS in the modes SIMPLE and MUTUAL of a DestinationRule. The server's certificate is verified against
    ``caCertificates`` or the system's roots, and for the ``subjectAltNames`` of the rule or of the
    ServiceEntry, or else for the host's name."""
    name = settings.sni or ("" if service.hostname.startswith("*") else service.hostname)
    context: dict[str, Any] = {"tls_params": _ORIGIN_VERSIONS}
    if http2:
        context["alpn_protocols"] = ["h2"]
    if settings.client_certificate:
        context["tls_certificates"] = [
            {
                "certificate_chain": {"filename": settings.client_certificate},
                "private_key": {"filename": settings.private_key},
            }
        ]
    if not settings.insecure_skip_verify:
        names = settings.subject_alt_names or service.subject_alt_names or ((name,) if name else ())
        context["validation_context"] = {
            "trusted_ca": {"filename": settings.ca_certificates or SYSTEM_ROOTS},
            "match_typed_subject_alt_names": [_exact_name(each) for each in names],
        }
    return extension(_TLS, UpstreamTlsContext(common_tls_context=context, sni=name))


def _mesh_context(alpn: tuple[str, ...], subject_alt_names: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tls_params": _MESH_VERSIONS,
        "alpn_protocols": alpn,
        "tls_certificate_sds_secret_configs": [{"name": WORKLOAD_CERTIFICATE_SECRET}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": subject_alt_names},
            "validation_context_sds_secret_config": {"name": TRUST_BUNDLE_SECRET},
        },
    }


def _exact_name(name: str) -> dict[str, Any]:
    kind = "URI" if "://" in name else "DNS"
    return {"san_type": kind, "matcher": {"exact": name}}
