"""TLS contexts, created from configuration and the workload's certificate, and replaced when either changes.

A context in use is never modified (roots cannot be removed from one): open connections keep theirs, and new
connections get a new one. So a rotation drops no connection.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from protos.node import WORKLOAD_CERTIFICATE_SECRET
from sidecar.config.tls import DownstreamTls, Secret, TlsParameters, TlsVersion, UpstreamTls
from sidecar.errors import IdentityError
from sidecar.identity.context_control import prefer_aes_128, send_configured_chain_only
from sidecar.identity.material import KeyPair, Material, awaits_svid, names_svid, resolve
from sidecar.identity.peer import Peer, PeerVerifier, check_server_name
from sidecar.identity.session_cache import keep_sessions_in_memory
from sidecar.identity.svid_pem import SvidPem

_LOG = logging.getLogger(__name__)

# Far more than a mesh has. Above it all contexts are dropped, to free those of removed configurations.
_MAX_CACHED: Final = 4096

_VERSIONS: Final = {TlsVersion.TLS1_2: ssl.TLSVersion.TLSv1_2, TlsVersion.TLS1_3: ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """One side of TLS for one resource. Endpoints that differ only in SAN matches share a context."""

    context: ssl.SSLContext
    verifier: PeerVerifier
    material: Material


class TlsContexts:
    """``ssl.SSLContext`` objects by configuration value. The only I/O is to read the named files."""

    def __init__(self, secrets: Mapping[str, Secret] | None = None) -> None:
        self._secrets: Mapping[str, Secret] = secrets or {}
        self._endpoints: dict[DownstreamTls | UpstreamTls, _Endpoint] = {}
        self._found: dict[int, tuple[DownstreamTls | UpstreamTls, _Endpoint]] = {}  # see `_endpoint`
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}
        self.svid: SvidPem | None = None
        self._last_warning = ""

    @property
    def ready(self) -> bool:
        """Whether the workload has its certificate."""
        return self.svid is not None

    def awaits_identity(self, tls: DownstreamTls | UpstreamTls) -> bool:
        """Whether ``tls`` cannot be served before the workload's certificate arrives."""
        return self.svid is None and awaits_svid(tls.parameters, self._secrets)

    def use_svid(self, svid: SvidPem) -> None:
        """New connections use this SVID and its trust bundle. Contexts without it are kept: their files have
        not changed, and may be deleted by now."""
        self.svid = svid
        self._endpoints = {
            tls: endpoint for tls, endpoint in self._endpoints.items() if not names_svid(tls.parameters)
        }
        self._drop_unused()

    def use_secrets(self, secrets: Mapping[str, Secret]) -> None:
        """The static secrets of a new snapshot."""
        if secrets != self._secrets:
            self._secrets = secrets
            self._forget()

    def server(self, tls: DownstreamTls) -> ssl.SSLContext:
        """The context of a server. Raises `IdentityError` for a missing or invalid certificate."""
        return self._endpoint(tls).context

    def client(self, tls: UpstreamTls) -> ssl.SSLContext:
        """The context of a client; the caller passes ``tls.sni`` as server name. Raises `IdentityError`."""
        return self._endpoint(tls).context

    def verify_client(self, tls: DownstreamTls, connection: ssl.SSLObject) -> Peer:
        """The client of a connection whose handshake is done. Raises `IdentityError`."""
        return self._endpoint(tls).verifier.verify(connection)

    def verify_server(self, tls: UpstreamTls, connection: ssl.SSLObject, name: str | None = None) -> str:
        """The SPIFFE URI of a server whose handshake is done, empty without one. `name`, where set: the
        certificate must be for this name too. Raises `IdentityError`."""
        peer = self._endpoint(tls).verifier.verify(connection)
        if name is not None:
            check_server_name(connection, name)
        return peer.id

    def follow_files(self) -> bool:
        """Reads the named files again, since Kubernetes replaces mounted files. Returns whether any context
        was replaced. When the new content is invalid, for example a new certificate with the old key, the old
        context stays in use."""
        followed = [each for each in self._endpoints.items() if each[1].material.from_files]
        if not [tls for tls, endpoint in followed if self._follow(tls, endpoint)]:
            return False
        self._drop_unused()
        return True

    def _follow(self, tls: DownstreamTls | UpstreamTls, endpoint: _Endpoint) -> bool:
        try:
            material = resolve(tls.parameters, self.svid, self._secrets)
            if material == endpoint.material:
                return False
            replacement = self._make(tls, material)
        except IdentityError as error:
            if str(error) != self._last_warning:  # logged once
                _LOG.warning("a changed certificate is invalid, the old one stays in use: %s", error)
            self._last_warning = str(error)
            return False
        self._endpoints[tls] = replacement
        self._last_warning = ""
        return True

    def materials(self) -> Iterator[Material]:
        """The certificates and roots of the contexts in use, for the admin's ``/certs``."""
        return (endpoint.material for endpoint in self._endpoints.values())

    def _drop_unused(self) -> None:
        self._found.clear()
        in_use = {endpoint.context for endpoint in self._endpoints.values()}
        self._contexts = {key: context for key, context in self._contexts.items() if context in in_use}

    def _forget(self) -> None:
        self._endpoints.clear()
        self._found.clear()
        self._contexts.clear()

    def _endpoint(self, tls: DownstreamTls | UpstreamTls) -> _Endpoint:
        """A configuration serves many connections, and to hash its value costs 6 us: it is found by its id
        first, which no other object has while it is kept here."""
        found = self._found.get(id(tls))
        if found is not None:
            return found[1]
        endpoint = self._endpoints.get(tls) or self._remember(tls)
        if len(self._found) >= _MAX_CACHED:
            self._found.clear()
        self._found[id(tls)] = tls, endpoint
        return endpoint

    def _remember(self, tls: DownstreamTls | UpstreamTls) -> _Endpoint:
        endpoint = self._make(tls, self._resolve(tls.parameters))
        if len(self._endpoints) >= _MAX_CACHED:
            self._forget()
        self._endpoints[tls] = endpoint
        return endpoint

    def _resolve(self, parameters: TlsParameters) -> Material:
        if self.svid is None and awaits_svid(parameters, self._secrets):
            raise IdentityError("the workload has no certificate yet")
        return resolve(parameters, self.svid, self._secrets)

    def _make(self, tls: DownstreamTls | UpstreamTls, material: Material) -> _Endpoint:
        """Raises `IdentityError` for material that does not fit the parameters."""
        key: tuple[object, ...]
        if isinstance(tls, DownstreamTls):
            _check_server(tls, material)
            key = ("server", tls.require_client_certificate, *_context_key(tls.parameters, material))
            context = self._contexts.get(key) or _server_context(tls, material)
        else:
            _check_client(material)
            key = ("client", *_context_key(tls.parameters, material))
            context = self._contexts.get(key) or _client_context(tls, material)
        trust_domain = material.roots.trust_domain if material.roots is not None else ""
        endpoint = _Endpoint(context, PeerVerifier(material.sans, trust_domain), material)
        self._contexts[key] = context
        return endpoint


def _check_server(tls: DownstreamTls, material: Material) -> None:
    if material.key_pair is None:
        raise IdentityError("a TLS server needs a certificate")
    if tls.require_client_certificate and material.roots is None:
        raise IdentityError("a client certificate is required, but roots to verify it are missing")


def _check_client(material: Material) -> None:
    if material.sans and material.roots is None:
        raise IdentityError("the server's names must match, but roots to verify them are missing")


def _context_key(parameters: TlsParameters, material: Material) -> tuple[object, ...]:
    """Everything that a context depends on, which excludes the SAN matches."""
    return (
        material.key_pair,
        material.roots,
        parameters.alpn_protocols,
        parameters.cipher_suites,
        parameters.minimum_version,
        parameters.maximum_version,
        parameters.certificate_secret,
    )


def _server_context(tls: DownstreamTls, material: Material) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # A session belongs to this context: it is not valid for another certificate, key or roots.
    context.num_tickets = 1
    keep_sessions_in_memory(context)
    _configure(context, tls.parameters, material)
    if tls.require_client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    elif material.roots is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _client_context(tls: UpstreamTls, material: Material) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # `PeerVerifier` checks the names
    context.verify_mode = ssl.CERT_NONE if material.roots is None else ssl.CERT_REQUIRED
    _configure(context, tls.parameters, material)
    return context


def _configure(context: ssl.SSLContext, parameters: TlsParameters, material: Material) -> None:
    # TLS 1.3 between sidecars; Envoy's default otherwise.
    is_mesh = parameters.certificate_secret == WORKLOAD_CERTIFICATE_SECRET
    lowest = ssl.TLSVersion.TLSv1_3 if is_mesh else ssl.TLSVersion.TLSv1_2
    context.minimum_version = _VERSIONS.get(parameters.minimum_version, lowest)
    context.maximum_version = _VERSIONS.get(parameters.maximum_version, ssl.TLSVersion.MAXIMUM_SUPPORTED)
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A bundle may hold an intermediate as its trust anchor.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    prefer_aes_128(context)
    if parameters.cipher_suites:
        context.set_ciphers(":".join(parameters.cipher_suites))
    if parameters.alpn_protocols:
        context.set_alpn_protocols(list(parameters.alpn_protocols))
    if material.key_pair is not None:
        _load_key_pair(context, material.key_pair)
        send_configured_chain_only(context)
    if material.roots is not None and material.roots.system:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    elif material.roots is not None:
        try:
            context.load_verify_locations(cadata=material.roots.certificates.decode())
        except (ssl.SSLError, ValueError) as error:
            raise IdentityError(f"invalid roots in {material.roots.path}: {error}") from error


def _load_key_pair(context: ssl.SSLContext, key_pair: KeyPair) -> None:
    try:
        with _in_memory(key_pair.chain) as chain, _in_memory(key_pair.key) as key:
            context.load_cert_chain(chain, key, password="")  # an encrypted key fails, and does not prompt
    except (ssl.SSLError, OSError, ValueError) as error:
        raise IdentityError(f"invalid certificate or key in {key_pair.path}: {error}") from error


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path for `ssl`, which accepts only files. The key is never written to disk."""
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
