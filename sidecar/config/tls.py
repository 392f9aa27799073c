"""TLS contexts. Source: ``envoy.extensions.transport_sockets.tls.v3``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class TlsVersion(Enum):
    AUTO = 0
    TLS1_2 = 3
    TLS1_3 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """``envoy.config.core.v3.DataSource``: a file, or bytes in place; exactly one is set."""

    filename: str | None = None
    inline: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsCertificate:
    """A PEM chain, leaf first, and its PEM key."""

    certificate_chain: DataSource
    private_key: DataSource


class SanMatchKind(Enum):
    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    CONTAINS = "contains"
    REGEX = "regex"  # RE2, whole value


@dataclass(frozen=True, slots=True, kw_only=True)
class SanMatch:
    """``SubjectAltNameMatcher``: ``san_type`` is URI, DNS, EMAIL or IP_ADDRESS, or ANY."""

    kind: SanMatchKind
    value: str
    san_type: str = "ANY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """``CertificateValidationContext``. With neither ``trusted_ca`` nor ``system_roots`` (the operating
    system's) the peer is not verified."""

    trusted_ca: DataSource | None = None
    system_roots: bool = False
    match_sans: tuple[SanMatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A static secret of the bootstrap file, or a secret that is named by SDS."""

    name: str
    certificate: TlsCertificate | None = None
    validation: Validation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsParameters:
    """``CommonTlsContext``. The certificate and the roots are given in place, or by the name of a secret
    (``protos.node.WORKLOAD_CERTIFICATE_SECRET`` and ``TRUST_BUNDLE_SECRET`` are those of the workload). If
    both ``validation`` and ``validation_secret`` are set (the combined context), the SAN matches of
    ``validation`` are added to those of the secret. ``cipher_suites`` are OpenSSL's names, in the order of
    preference; they are for TLS 1.2, and empty means OpenSSL's default."""

    certificate: TlsCertificate | None = None
    certificate_secret: str | None = None
    validation: Validation | None = None
    validation_secret: str | None = None
    alpn_protocols: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()
    minimum_version: TlsVersion = TlsVersion.AUTO
    maximum_version: TlsVersion = TlsVersion.AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class DownstreamTls:
    parameters: TlsParameters
    require_client_certificate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTls:
    parameters: TlsParameters
    sni: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoNames:
    """``UpstreamHttpProtocolOptions``: names of hosts that come from each request, from its ``header``, or
    else from its authority. ``sni`` (``auto_sni``): it is the SNI. ``san`` (``auto_san_validation``): the
    host's certificate must be for it. ``header`` is lower-case; empty: only the authority."""

    sni: bool = False
    san: bool = False
    header: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerNames:
    """What `AutoNames` found for a request. Connections with other names are not for it. ``sni`` None is that
    of the `UpstreamTls`. ``san``: the certificate must be for it too; None: it need not."""

    sni: str | None = None
    san: str | None = None
