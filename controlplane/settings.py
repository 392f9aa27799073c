"""How the control plane was told to run: flags first, then the environment (``OUTRIGGER_XDS_PORT`` stands for
``--xds-port``), then defaults. Read once, at the start.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
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
DEFAULT_STATE_DIR: Final = Path("~/.outrigger").expanduser()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """0: any free port. ``xds`` None: there is no plaintext port."""

    xds: int | None
    xds_tls: int
    debug: int
    metrics: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoritySettings:
    """``signer`` None: a self-signed root that is stored in the state folder; in a cluster the signer in the
    Secret ``cacerts``, or else a self-signed root that is stored in a Secret. ``roots`` are trusted in
    addition to the signer's own."""

    signer: SignerFiles | None
    roots: Path | None
    default_lifetime_s: float
    max_lifetime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``source``: ``files``, in ``folder``, with keys in ``state_dir``; or ``kubernetes``, with
    ``kubeconfig`` (None: as a pod of the cluster). ``namespace`` has the control plane, its Service and its
    Secrets. ``xds_auth``: proxies must authenticate over TLS (istiod's XDS_AUTH)."""

    source: str
    folder: Path
    kubeconfig: Path | None
    namespace: str
    state_dir: Path
    bind_address: str
    ports: Ports
    mesh: MeshConfig
    authority: AuthoritySettings
    xds_auth: bool
    log_level: str
    log_format: str
    addresses_file: Path | None


def read_settings(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Raises `SettingsError` for invalid files and contradicting values; exits with code 2 on an invalid
    flag, as argparse does."""
    flags = _parser(environment).parse_args(argv)
    # With a folder, the control plane has no namespace of its own: Istio's default applies.
    root = flags.namespace if flags.source == "kubernetes" else MeshConfig().root_namespace
    mesh = load_mesh_config(flags.mesh_config, root) if flags.mesh_config else MeshConfig(root_namespace=root)
    if flags.trust_domain:
        mesh = replace(mesh, trust_domain=flags.trust_domain)
    return Settings(
        source=flags.source,
        folder=flags.folder,
        kubeconfig=flags.kubeconfig,
        namespace=flags.namespace,
        state_dir=flags.state_dir,
        bind_address=flags.bind_address,
        ports=Ports(
            xds=flags.xds_port, xds_tls=flags.xds_tls_port, debug=flags.debug_port, metrics=flags.metrics_port
        ),
        mesh=replace(mesh, dns_domain=flags.domain),
        authority=_authority(flags),
        xds_auth=flags.xds_auth == "true",
        log_level=flags.log_level,
        log_format=flags.log_format,
        addresses_file=flags.addresses_file,
    )


def _authority(flags: argparse.Namespace) -> AuthoritySettings:
    if bool(flags.ca_cert) != bool(flags.ca_key):
        raise SettingsError("--ca-cert and --ca-key must be given together")
    if flags.ca_chain and not flags.ca_cert:
        raise SettingsError("--ca-chain needs --ca-cert and --ca-key")
    if flags.workload_cert_ttl > flags.max_workload_cert_ttl:
        raise SettingsError("--workload-cert-ttl is longer than --max-workload-cert-ttl")
    signer = None
    if flags.ca_cert:
        signer = SignerFiles(
            certificate=flags.ca_cert, key=flags.ca_key, chain=flags.ca_chain, roots=flags.root_cert
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
        description="The control plane: watches resources, streams configuration, signs certificates.",
        epilog=f"Each flag can be set in the environment: {_variable('xds-port')} sets --xds-port.",
        allow_abbrev=False,
    )

    def flag(name: str, metavar: str, read: Callable[[str], object], default: str | None, text: str) -> None:
        # argparse parses a default of type str as it parses a flag.
        value = environment.get(_variable(name), default)
        shown = text if default is None else f"{text} (default: {default})"
        parser.add_argument(f"--{name}", metavar=metavar, type=read, default=value, help=shown)

    flag(
        "source",
        "KIND",
        _one_of("files", "kubernetes"),
        "files",
        "where resources come from: files, kubernetes",
    )
    flag("folder", "DIR", Path, ".", "files: the folder of YAML to follow")
    flag(
        "kubeconfig",
        "FILE",
        Path,
        None,
        "kubernetes: the kubeconfig file of the cluster (default: as a pod of the cluster)",
    )
    flag(
        "namespace",
        "NAME",
        _namespace,
        environment.get("POD_NAMESPACE", DEFAULT_NAMESPACE),
        "the namespace of the control plane; read from POD_NAMESPACE if set",
    )
    flag(
        "state-dir", "DIR", Path, str(DEFAULT_STATE_DIR), "files: the folder of the root and of the token key"
    )
    flag("bind-address", "IP", _ip_address, "127.0.0.1", "the address that every port listens on")
    plaintext = "xDS in plaintext, or off; 0 picks a free port, here and below"
    flag("xds-port", "PORT", _port_or_off, "15010", plaintext)
    flag("xds-tls-port", "PORT", _port, "15012", "xDS and certificate signing over TLS")
    flag("debug-port", "PORT", _port, "8080", "health and debug API")
    flag("metrics-port", "PORT", _port, "15014", "Prometheus metrics")
    flag("addresses-file", "FILE", Path, None, "write the bound addresses there, as JSON, when ready")
    flag("mesh-config", "FILE", Path, None, "YAML with the fields of Istio's MeshConfig")
    flag("trust-domain", "NAME", _trust_domain, None, "overrides the mesh configuration's trustDomain")
    flag("domain", "NAME", str, "cluster.local", "the DNS domain of services")
    flag(
        "ca-cert",
        "FILE",
        Path,
        None,
        "the signing certificate, instead of the one in the state folder or in a Secret",
    )
    flag("ca-key", "FILE", Path, None, "the key of --ca-cert")
    flag("ca-chain", "FILE", Path, None, "the intermediate certificates between --ca-cert and the root")
    flag("root-cert", "FILE", Path, None, "roots to trust: may hold several during a rotation")
    flag(
        "workload-cert-ttl", "TIME", _duration_s, "24h", "lifetime of a certificate whose request states none"
    )
    flag("max-workload-cert-ttl", "TIME", _duration_s, "2160h", "maximum lifetime of a certificate")
    flag(
        "xds-auth",
        "BOOL",
        _one_of("true", "false"),
        "true",
        "whether proxies must authenticate by token over TLS",
    )
    flag("log-level", "LEVEL", _one_of("debug", "info", "warning", "error"), "info", "lowest level to log")
    flag("log-format", "FORMAT", _one_of("text", "json"), "text", "text or json")
    return parser


def _variable(flag: str) -> str:
    return ENVIRONMENT_PREFIX + flag.upper().replace("-", "_")


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(choices)}")
        return text

    return read


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: expected 0 to 65535")
    return int(text)


def _port_or_off(text: str) -> int | None:
    return None if text == "off" else _port(text)


def _ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from error


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


def _duration_s(text: str) -> float:
    try:
        duration_s = parse_duration(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if duration_s < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is shorter than 1 s")
    return duration_s
