"""The names of secrets by which an istiod means files of the proxy: in Istio, the agent reads them.

    file-cert:CHAIN~KEY   a certificate and its key, of `clientCertificate` and `privateKey`
    file-root:PATH        roots, of `caCertificates`
    file-root:system      the roots of the operating system

Source: ``ClientTLSSettings`` of DestinationRules, ``SecretResource`` of Istio's agent.
"""

from __future__ import annotations

from typing import Final

from sidecar.config.tls import DataSource, TlsCertificate, Validation
from sidecar.xds.decode.view import View

_CERTIFICATE: Final = "file-cert:"
_ROOTS: Final = "file-root:"
_SYSTEM: Final = "system"


def certificate_files(view: View) -> TlsCertificate | None:
    """None for an ``SdsSecretConfig`` with another name. Raises `ConfigError` unless it names two files."""
    name = _discovered(view)
    if not name.startswith(_CERTIFICATE):
        return None
    chain, _, key = name.removeprefix(_CERTIFICATE).partition("~")
    if not chain or not key or "~" in key:
        raise view.error(f"{name!r}: expected {_CERTIFICATE}CHAIN~KEY", "name")
    return TlsCertificate(certificate_chain=DataSource(filename=chain), private_key=DataSource(filename=key))


def root_files(view: View) -> Validation | None:
    """None for an ``SdsSecretConfig`` with another name. Raises `ConfigError` for a name without a file: the
    peer would not be verified."""
    name = _discovered(view)
    if not name.startswith(_ROOTS):
        return None
    path = name.removeprefix(_ROOTS)
    if not path:
        raise view.error(f"{name!r}: expected {_ROOTS}PATH", "name")
    if path == _SYSTEM:
        return Validation(system_roots=True)
    return Validation(trusted_ca=DataSource(filename=path))


def _discovered(view: View) -> str:
    """The name of a secret of SDS; a static secret can have any name."""
    return str(view.message.name) if view.has("sds_config") else ""
