"""The settings of the control plane: from flags, then the environment (``OUTRIGGER_XDS_PORT`` for
``--xds-port``), then defaults. They are read once, at the start.

A flag or variable that the sidecar or the command `outrigger` has too has the same meaning there.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from controlplane.ca.signer_files import SignerFiles
from controlplane.errors import SettingsError
from controlplane.flags import DEFAULT_REVISION, parser
from controlplane.mesh_config_file import load_mesh_config
from controlplane.model.mesh_config import MeshConfig

SERVICE: Final = "outrigger-controlplane"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The listening ports. 0 means any free port. None means that plaintext xDS, or the webhooks, are off."""

    xds: int | None
    xds_tls: int
    webhooks: int | None
    debug: int
    metrics: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoritySettings:
    """The settings of the certificate authority. Without a ``signer``, it uses a generated root in the state
    folder or, in a cluster, the Secret cacerts or else a generated root in a Secret. ``roots`` are trusted in
    addition."""

    signer: SignerFiles | None
    roots: Path | None
    default_lifetime_s: float
    max_lifetime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. ``source`` is ``files`` (resources in ``folder``, keys in ``state_dir``) or
    ``kubernetes`` (the cluster of ``kubeconfig``; None means the cluster that this pod runs in).
    ``system_namespace`` is the namespace of the control plane, its Service and its Secrets. ``revision`` is
    the value of ``istio.io/rev`` of the namespaces and webhooks of this control plane. ``injection_config``
    is the file of the injector's configuration; None means its defaults. ``xds_auth`` means that proxies
    must authenticate over TLS (istiod's XDS_AUTH)."""

    source: str
    folder: Path
    kubeconfig: Path | None
    system_namespace: str
    revision: str
    state_dir: Path
    bind_address: str
    ports: Ports
    injection_config: Path | None
    mesh: MeshConfig
    authority: AuthoritySettings
    xds_auth: bool
    log_level: str
    log_format: str
    addresses_file: Path | None

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the Services through which clients call this control plane."""
        own = () if self.revision == DEFAULT_REVISION else (f"{SERVICE}-{self.revision}",)
        return (SERVICE, *own)


def read_settings(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Raises `SettingsError` for files that cannot be used and for contradictory values. Exits with code 2 on
    an unknown flag or an invalid value, as argparse does."""
    flags = parser(environment).parse_args(argv)
    # With a folder, the control plane has no namespace, so Istio's default is used.
    root = flags.system_namespace if flags.source == "kubernetes" else MeshConfig().root_namespace
    mesh = load_mesh_config(flags.mesh_config, root) if flags.mesh_config else MeshConfig(root_namespace=root)
    if flags.trust_domain:
        mesh = replace(mesh, trust_domain=flags.trust_domain)
    return Settings(
        source=flags.source,
        folder=flags.folder,
        kubeconfig=flags.kubeconfig,
        system_namespace=flags.system_namespace,
        revision=flags.revision,
        state_dir=flags.state_dir,
        bind_address=flags.bind_address,
        ports=Ports(
            xds=flags.xds_port,
            xds_tls=flags.xds_tls_port,
            webhooks=flags.webhook_port,
            debug=flags.debug_port,
            metrics=flags.metrics_port,
        ),
        injection_config=flags.injection_config,
        mesh=replace(mesh, dns_domain=flags.domain),
        authority=_authority(flags),
        xds_auth=flags.xds_auth == "true",
        log_level=flags.log_level,
        log_format=flags.log_format,
        addresses_file=flags.addresses_file,
    )


def _authority(flags: argparse.Namespace) -> AuthoritySettings:
    if bool(flags.signing_cert) != bool(flags.signing_key):
        raise SettingsError("--signing-cert and --signing-key must be used together")
    if flags.signing_chain and not flags.signing_cert:
        raise SettingsError("--signing-chain requires --signing-cert and --signing-key")
    if flags.workload_cert_ttl > flags.max_workload_cert_ttl:
        raise SettingsError("--workload-cert-ttl is longer than --max-workload-cert-ttl")
    signer = None
    if flags.signing_cert:
        signer = SignerFiles(
            certificate=flags.signing_cert,
            key=flags.signing_key,
            chain=flags.signing_chain,
            roots=flags.root_cert,
        )
    return AuthoritySettings(
        signer=signer,
        roots=flags.root_cert,
        default_lifetime_s=flags.workload_cert_ttl,
        max_lifetime_s=flags.max_workload_cert_ttl,
    )
