"""Transport sockets: ``envoy.extensions.transport_sockets.tls.v3``."""

from __future__ import annotations

import re
import ssl
from collections.abc import Set
from dataclasses import replace
from functools import cache
from typing import Final

from protos.node import TRUST_BUNDLE_SECRET, WORKLOAD_CERTIFICATE_SECRET
from sidecar.config.route import StringMatchKind
from sidecar.config.tls import (
    DownstreamTls,
    SanMatch,
    SanMatchKind,
    Secret,
    TlsCertificate,
    TlsParameters,
    TlsVersion,
    UpstreamTls,
    Validation,
)
from sidecar.xds.decode.file_secrets import certificate_files, root_files
from sidecar.xds.decode.matchers import decode_string_match
from sidecar.xds.decode.metadata_exchange import without_exchange
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.values import decode_data_source
from sidecar.xds.decode.view import View

WORKLOAD_SECRETS: Final = frozenset((WORKLOAD_CERTIFICATE_SECRET, TRUST_BUNDLE_SECRET))

_UPSTREAM = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_DOWNSTREAM = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_RAW = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
_RAW_NAME = "envoy.transport_sockets.raw_buffer"
_SUITE = re.compile(r"[A-Z0-9]+(-[A-Z0-9]+)+")
_VERSIONS = {
    "TLS_AUTO": TlsVersion.AUTO,
    "TLSv1_2": TlsVersion.TLS1_2,
    "TLSv1_3": TlsVersion.TLS1_3,
}
_SAN_KINDS = {
    StringMatchKind.EXACT: SanMatchKind.EXACT,
    StringMatchKind.PREFIX: SanMatchKind.PREFIX,
    StringMatchKind.SUFFIX: SanMatchKind.SUFFIX,
    StringMatchKind.CONTAINS: SanMatchKind.CONTAINS,
    StringMatchKind.REGEX: SanMatchKind.REGEX,
}


_PACKAGE = "envoy.extensions.transport_sockets.tls.v3"

TABLE: Final[SupportTable] = {
    "envoy.config.core.v3.TransportSocket": support("name typed_config"),
    _RAW: support(),
    _UPSTREAM: support(
        "common_tls_context sni",
        max_session_keys="whether a session is resumed does not change the answer",
    ),
    _DOWNSTREAM: support("common_tls_context require_client_certificate"),
    f"{_PACKAGE}.CommonTlsContext": support(
        "tls_params tls_certificates tls_certificate_sds_secret_configs validation_context "
        "validation_context_sds_secret_config combined_validation_context alpn_protocols"
    ),
    f"{_PACKAGE}.CommonTlsContext.CombinedCertificateValidationContext": support(
        "default_validation_context validation_context_sds_secret_config"
    ),
    f"{_PACKAGE}.TlsParameters": support(
        "tls_minimum_protocol_version tls_maximum_protocol_version cipher_suites"
    ),
    f"{_PACKAGE}.TlsCertificate": support("certificate_chain private_key"),
    f"{_PACKAGE}.CertificateValidationContext": support(
        "trusted_ca system_root_certs match_typed_subject_alt_names match_subject_alt_names"
    ),
    f"{_PACKAGE}.CertificateValidationContext.SystemRootCerts": support(),
    f"{_PACKAGE}.SubjectAltNameMatcher": support("san_type matcher"),
    f"{_PACKAGE}.SdsSecretConfig": support("name sds_config"),
    f"{_PACKAGE}.Secret": support("name tls_certificate validation_context"),
}


def decode_upstream_socket(socket: View | None, secrets: Set[str]) -> UpstreamTls | None:
    """A cluster's ``transport_socket``; None is plaintext. ``secrets`` are the names of static secrets."""
    context = _context(socket, _UPSTREAM)
    if context is None:
        return None
    parameters = _parameters(context.get("common_tls_context"), secrets)
    return UpstreamTls(parameters=parameters, sni=_server_name(context))


def _server_name(context: View) -> str:
    """Raises `ConfigError` for a name that a ClientHello cannot carry: every connection to the cluster would
    fail."""
    sni: str = context.message.sni
    try:
        sni.encode("idna")
    except UnicodeError as error:
        raise context.error(f"{sni!r} is not a host name: {error}", "sni") from error
    if "\0" in sni:
        raise context.error(f"{sni!r} is not a host name", "sni")
    return sni


def decode_downstream_socket(socket: View | None, secrets: Set[str]) -> DownstreamTls | None:
    """A filter chain's ``transport_socket``; None is plaintext."""
    context = _context(socket, _DOWNSTREAM)
    if context is None:
        return None
    common = context.get("common_tls_context")
    parameters = _parameters(common, secrets)
    if parameters.certificate is None and parameters.certificate_secret is None:
        raise common.error(
            "a server needs a certificate: tls_certificates or tls_certificate_sds_secret_configs"
        )
    required = context.wrapped("require_client_certificate", False)
    return DownstreamTls(parameters=parameters, require_client_certificate=required)


def _context(socket: View | None, tls_type: str) -> View | None:
    if socket is None:
        return None
    if not socket.has("typed_config"):
        if socket.message.name == _RAW_NAME:
            return None
        raise socket.error("is required", "typed_config")
    context = socket.unpack("typed_config", tls_type, _RAW)
    return None if context.message.DESCRIPTOR.full_name == _RAW else context


def _parameters(view: View, secrets: Set[str]) -> TlsParameters:
    versions = view.get("tls_params")
    minimum = _version(versions, "tls_minimum_protocol_version")
    maximum = _version(versions, "tls_maximum_protocol_version")
    if TlsVersion.AUTO not in (minimum, maximum) and minimum.value > maximum.value:
        raise versions.error(
            f"{minimum.name} is above the maximum version, {maximum.name}", "tls_minimum_protocol_version"
        )
    certificate, certificate_secret = _own_certificate(view, secrets)
    validation, validation_secret = _peer_validation(view, secrets)
    for index, protocol in enumerate(view.message.alpn_protocols):
        if not 0 < len(protocol.encode()) < 256:  # RFC 7301 3.1
            raise view.error("must have 1 to 255 bytes", f"alpn_protocols[{index}]")
    return TlsParameters(
        certificate=certificate,
        certificate_secret=certificate_secret,
        validation=validation,
        validation_secret=validation_secret,
        cipher_suites=_cipher_suites(versions),
        alpn_protocols=without_exchange(view.message.alpn_protocols),
        minimum_version=minimum,
        maximum_version=maximum,
    )


def _cipher_suites(view: View) -> tuple[str, ...]:
    """The names, also of groups of equal preference (``[A|B]``), which OpenSSL does not have: it prefers the
    first. Raises `ConfigError` for a suite that OpenSSL does not know."""
    suites: list[str] = []
    for index, names in enumerate(view.message.cipher_suites):
        for name in names.strip("[]").split("|"):
            if not _is_cipher_suite(name):
                raise view.error(
                    f"{name!r} is not a cipher suite that OpenSSL knows", f"cipher_suites[{index}]"
                )
            suites.append(name)
    return tuple(suites)


@cache
def _is_cipher_suite(name: str) -> bool:
    """Whether it is the name of one suite. A rule such as ``ALL`` or ``!MD5`` is none."""
    if not _SUITE.fullmatch(name):
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.set_ciphers(name)
    except ssl.SSLError:
        return False
    return any(cipher["name"] == name for cipher in context.get_ciphers())


def _version(view: View, field: str) -> TlsVersion:
    name = view.enum_name(field)
    if name not in _VERSIONS:
        raise view.error(f"{name} is too old to be supported", field)
    return _VERSIONS[name]


def _own_certificate(view: View, secrets: Set[str]) -> tuple[TlsCertificate | None, str | None]:
    in_place = list(view.each("tls_certificates"))
    named = list(view.each("tls_certificate_sds_secret_configs"))
    if len(in_place) + len(named) > 1:
        raise view.error("only one certificate is supported", "tls_certificates")
    if in_place:
        return decode_certificate(in_place[0]), None
    if not named:
        return None, None
    files = certificate_files(named[0])
    return (files, None) if files is not None else (None, _secret_name(named[0], secrets))


def _peer_validation(view: View, secrets: Set[str]) -> tuple[Validation | None, str | None]:
    kind = view.which("validation_context_type")
    if kind == "validation_context":
        return decode_validation(view.get(kind)), None
    if kind == "validation_context_sds_secret_config":
        return _named_validation(view.get(kind), None, secrets)
    if kind == "combined_validation_context":
        combined = view.get(kind)
        in_place = _validation(combined.get("default_validation_context"))
        return _named_validation(combined.get("validation_context_sds_secret_config"), in_place, secrets)
    return None, None


def _named_validation(
    named: View, in_place: Validation | None, secrets: Set[str]
) -> tuple[Validation | None, str | None]:
    """``in_place`` is merged over the secret, as in Envoy."""
    roots = root_files(named)
    if roots is None:
        return in_place, _secret_name(named, secrets)
    if in_place is None:
        return roots, None
    if in_place.trusted_ca is not None or in_place.system_roots:
        return in_place, None
    return replace(roots, match_sans=in_place.match_sans), None


def _secret_name(view: View, secrets: Set[str]) -> str:
    """Either a secret of the workload, whatever its source is configured to be, or a static secret."""
    name = str(view.message.name)
    if name in WORKLOAD_SECRETS or (name in secrets and not view.has("sds_config")):
        return name
    if view.has("sds_config"):
        known = " and ".join(sorted(WORKLOAD_SECRETS))
        raise view.error(
            f"{name!r} is not supported: only the secrets of the workload, {known}, are discovered", "name"
        )
    raise view.error(f"the static secret {name!r} does not exist", "name")


def decode_certificate(view: View) -> TlsCertificate:
    for field in ("certificate_chain", "private_key"):
        if not view.has(field):
            raise view.error("is required", field)
    return TlsCertificate(
        certificate_chain=decode_data_source(view.get("certificate_chain")),
        private_key=decode_data_source(view.get("private_key")),
    )


def decode_validation(view: View) -> Validation:
    validation = _validation(view)
    if validation.match_sans and validation.trusted_ca is None and not validation.system_roots:
        raise view.error("requires trusted_ca or system_root_certs", "match_typed_subject_alt_names")
    return validation


def _validation(view: View) -> Validation:
    """Without the check of `decode_validation`: in a combined context, the roots come from the secret."""
    trusted_ca = view.find("trusted_ca")
    typed = [
        _san_match(match.get("matcher"), match.enum_name("san_type"))
        for match in view.each("match_typed_subject_alt_names")
    ]
    untyped = [_san_match(match, "ANY") for match in view.each("match_subject_alt_names")]
    return Validation(
        trusted_ca=decode_data_source(trusted_ca) if trusted_ca else None,
        system_roots=view.has("system_root_certs"),
        match_sans=tuple(typed + untyped),
    )


def _san_match(matcher: View, san_type: str) -> SanMatch:
    if san_type not in {"EMAIL", "DNS", "URI", "IP_ADDRESS", "ANY"}:
        raise matcher.error(f"SAN type {san_type} is not supported")
    if matcher.message.ignore_case:
        raise matcher.error("is not supported for names in certificates", "ignore_case")
    match = decode_string_match(matcher)
    return SanMatch(kind=_SAN_KINDS[match.kind], value=match.value, san_type=san_type)


def decode_secret(view: View) -> Secret:
    """A static ``Secret`` of the bootstrap file."""
    kind = view.which("type")
    if not view.message.name:
        raise view.error("is required", "name")
    if not kind:
        raise view.error("one of tls_certificate, validation_context is required")
    content = view.get(kind)
    return Secret(
        name=view.message.name,
        certificate=decode_certificate(content) if kind == "tls_certificate" else None,
        validation=decode_validation(content) if kind == "validation_context" else None,
    )
