"""The settings of the control plane: from flags, then the environment (``OUTRIGGER_XDS_PORT`` for
``--xds-port``), then defaults. They are read once, at the start.

A flag or variable that the sidecar or the command `outrigger` has too has the same meaning there.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from controlplane.ca.signer_files import SignerFiles
from controlplane.errors import SettingsError
from controlplane.mesh_config_file import check_trust_domain, load_mesh_config
from controlplane.model.mesh_config import MeshConfig
from controlplane.resources.base import parse_duration
from protos.spiffe import SpiffeId

ENVIRONMENT_PREFIX: Final = "OUTRIGGER_"
DEFAULT_NAMESPACE: Final = "outrigger-system"
DEFAULT_REVISION: Final = "default"
SERVICE: Final = "outrigger-controlplane"
DEFAULT_STATE_DIR: Final = Path("~/.outrigger").expanduser()


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
    flags = _parser(environment).parse_args(argv)
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


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m controlplane",
        description="The control plane: watches resources, configures proxies and signs certificates.",
        epilog=f"Each flag can also be set in the environment: {_variable('xds-port')} for --xds-port.",
        allow_abbrev=False,
    )

    def flag(name: str, metavar: str, read: Callable[[str], object], default: str | None, text: str) -> None:
        # argparse parses a default that is a string like the value of a flag.
        value = environment.get(_variable(name), default)
        shown = text if default is None else f"{text} (default: {default})"
        parser.add_argument(f"--{name}", metavar=metavar, type=read, default=value, help=shown)

    flag(
        "source",
        "KIND",
        _one_of("files", "kubernetes"),
        "files",
        "the source of resources: files or kubernetes",
    )
    flag("folder", "DIR", Path, ".", "with files: the folder of YAML files")
    flag(
        "kubeconfig",
        "FILE",
        Path,
        None,
        "with kubernetes: the kubeconfig; without it, the configuration of its pod",
    )
    flag(
        "system-namespace",
        "NAME",
        _namespace,
        environment.get("POD_NAMESPACE", DEFAULT_NAMESPACE),
        "the control plane's own namespace; the default is the value of POD_NAMESPACE, if it is set",
    )
    flag(
        "revision",
        "NAME",
        _revision,
        DEFAULT_REVISION,
        "the revision of this control plane: the value of the label istio.io/rev",
    )
    flag("state-dir", "DIR", Path, str(DEFAULT_STATE_DIR), "with files: the folder of the root and the keys")
    flag("bind-address", "IP", _ip_address, "127.0.0.1", "the address on which all ports listen")
    plaintext = "plaintext xDS, or off; for each port, 0 means any free port"
    flag("xds-port", "PORT", _port_or_off, "15010", plaintext)
    flag("xds-tls-port", "PORT", _port, "15012", "xDS and certificate signing over TLS")
    flag(
        "webhook-port",
        "PORT",
        _port_or_off,
        "15017",
        "with kubernetes: the webhooks for injection and validation, or off",
    )
    flag("debug-port", "PORT", _port, "8080", "health and debug API")
    flag("metrics-port", "PORT", _port, "15014", "Prometheus metrics")
    flag("addresses-file", "FILE", Path, None, "write the listening addresses to this file when ready")
    flag("mesh-config", "FILE", Path, None, "a YAML file with the fields of Istio's MeshConfig")
    flag(
        "injection-config",
        "FILE",
        Path,
        None,
        "a YAML file that configures the injection of sidecars; it is read again when it changes",
    )
    flag("trust-domain", "NAME", _trust_domain, None, "overrides the mesh configuration's trustDomain")
    flag("domain", "NAME", str, "cluster.local", "the DNS domain of services")
    flag(
        "signing-cert",
        "FILE",
        Path,
        None,
        "the certificate that signs, instead of the one in the state folder or in a Secret",
    )
    flag("signing-key", "FILE", Path, None, "the key of --signing-cert")
    flag("signing-chain", "FILE", Path, None, "the intermediates between --signing-cert and the root")
    flag("root-cert", "FILE", Path, None, "trusted roots: can contain several during a rotation")
    flag("workload-cert-ttl", "TIME", _duration_s, "24h", "default lifetime of workload certificates")
    flag("max-workload-cert-ttl", "TIME", _duration_s, "2160h", "longest lifetime of workload certificates")
    flag(
        "xds-auth",
        "BOOL",
        _one_of("true", "false"),
        "true",
        "proxies must authenticate with a token over TLS",
    )
    flag(
        "log-level", "LEVEL", _one_of("debug", "info", "warning", "error"), "info", "the lowest logged level"
    )
    flag("log-format", "FORMAT", _one_of("text", "json"), "text", "text or json")
    return parser


def _variable(flag: str) -> str:
    return ENVIRONMENT_PREFIX + flag.upper().replace("-", "_")


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected one of {', '.join(choices)}")
        return text

    return read


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"invalid port {text!r}: expected 0 to 65535")
    return int(text)


def _port_or_off(text: str) -> int | None:
    return None if text == "off" else _port(text)


def _ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"invalid IP address {text!r}") from error


def _trust_domain(text: str) -> str:
    try:
        return check_trust_domain(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _namespace(text: str) -> str:
    try:
        return SpiffeId("cluster.local", text, "default").namespace
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _revision(text: str) -> str:
    # The names of its Service and Deployment contain it.
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", text):
        raise argparse.ArgumentTypeError(
            f"invalid revision {text!r:.80}: expected at most 40 lower-case letters, digits and '-'"
        )
    return text


def _duration_s(text: str) -> float:
    try:
        duration_s = parse_duration(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if duration_s < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is shorter than one second")
    return duration_s
