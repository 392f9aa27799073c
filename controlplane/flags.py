"""The flags of the control plane, by group; `settings` makes settings of them."""

from __future__ import annotations

import argparse
import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from controlplane.mesh_config_file import check_trust_domain
from controlplane.resources.base import parse_duration
from protos.spiffe import SpiffeId

ENVIRONMENT_PREFIX: Final = "OUTRIGGER_"
DEFAULT_NAMESPACE: Final = "outrigger-system"
DEFAULT_REVISION: Final = "default"
DEFAULT_STATE_DIR: Final = Path("~/.outrigger").expanduser()


class Flag(NamedTuple):
    """``read`` gets the text of the flag, of its variable or of the default, and raises
    `argparse.ArgumentTypeError`. ``default_variable`` is a variable of the environment that replaces the
    default."""

    name: str
    metavar: str
    read: Callable[[str], object]
    default: str | None
    text: str
    default_variable: str = ""


def parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m controlplane",
        description="The control plane: watches resources, configures proxies and signs certificates.",
        epilog=f"Each flag can also be set in the environment: {_variable('xds-port')} for --xds-port.",
        allow_abbrev=False,
    )
    for title, flags in GROUPS.items():
        group = parser.add_argument_group(title)
        for flag in flags:
            group.add_argument(f"--{flag.name}", **_argument(flag, environment))
    return parser


def _argument(flag: Flag, environment: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `argparse`, which parses a default that is a string like the value of a flag."""
    default = environment.get(flag.default_variable, flag.default)
    return {
        "metavar": flag.metavar,
        "type": flag.read,
        "default": environment.get(_variable(flag.name), default),
        "help": flag.text if default is None else f"{flag.text} (default: {default})",
    }


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


_SOURCES: Final = (
    Flag(
        "source",
        "KIND",
        _one_of("files", "kubernetes"),
        "files",
        "the source of resources: files or kubernetes",
    ),
    Flag("folder", "DIR", Path, ".", "with files: the folder of YAML files"),
    Flag("state-dir", "DIR", Path, str(DEFAULT_STATE_DIR), "with files: the folder of the root and the keys"),
    Flag(
        "kubeconfig",
        "FILE",
        Path,
        None,
        "with kubernetes: the kubeconfig; without it, the configuration of its pod",
    ),
    Flag(
        "system-namespace",
        "NAME",
        _namespace,
        DEFAULT_NAMESPACE,
        "the control plane's own namespace; the default is the value of POD_NAMESPACE, if it is set",
        default_variable="POD_NAMESPACE",
    ),
    Flag(
        "revision",
        "NAME",
        _revision,
        DEFAULT_REVISION,
        "the revision of this control plane: the value of the label istio.io/rev",
    ),
)
_PORTS: Final = (
    Flag("bind-address", "IP", _ip_address, "127.0.0.1", "the address on which all ports listen"),
    Flag(
        "xds-port",
        "PORT",
        _port_or_off,
        "15010",
        "plaintext xDS, or off; for each port, 0 means any free port",
    ),
    Flag("xds-tls-port", "PORT", _port, "15012", "xDS and certificate signing over TLS"),
    Flag(
        "webhook-port",
        "PORT",
        _port_or_off,
        "15017",
        "with kubernetes: the webhooks for injection and validation, or off",
    ),
    Flag("debug-port", "PORT", _port, "8080", "health and debug API"),
    Flag("metrics-port", "PORT", _port, "15014", "Prometheus metrics"),
    Flag("addresses-file", "FILE", Path, None, "write the listening addresses to this file when ready"),
)
_MESH: Final = (
    Flag("mesh-config", "FILE", Path, None, "a YAML file with the fields of Istio's MeshConfig"),
    Flag(
        "injection-config",
        "FILE",
        Path,
        None,
        "a YAML file that configures the injection of sidecars; it is read again when it changes",
    ),
    Flag("trust-domain", "NAME", _trust_domain, None, "overrides the mesh configuration's trustDomain"),
    Flag("domain", "NAME", str, "cluster.local", "the DNS domain of services"),
    Flag(
        "xds-auth",
        "BOOL",
        _one_of("true", "false"),
        "true",
        "proxies must authenticate with a token over TLS",
    ),
)
_CERTIFICATES: Final = (
    Flag(
        "signing-cert",
        "FILE",
        Path,
        None,
        "the certificate that signs, instead of the one in the state folder or in a Secret",
    ),
    Flag("signing-key", "FILE", Path, None, "the key of --signing-cert"),
    Flag("signing-chain", "FILE", Path, None, "the intermediates between --signing-cert and the root"),
    Flag("root-cert", "FILE", Path, None, "trusted roots: can contain several during a rotation"),
    Flag("workload-cert-ttl", "TIME", _duration_s, "24h", "default lifetime of workload certificates"),
    Flag("max-workload-cert-ttl", "TIME", _duration_s, "2160h", "longest lifetime of workload certificates"),
)
_LOGGING: Final = (
    Flag(
        "log-level", "LEVEL", _one_of("debug", "info", "warning", "error"), "info", "the lowest logged level"
    ),
    Flag("log-format", "FORMAT", _one_of("text", "json"), "text", "text or json"),
)
GROUPS: Final = {
    "the source of resources": _SOURCES,
    "listening": _PORTS,
    "the mesh": _MESH,
    "certificates": _CERTIFICATES,
    "logging": _LOGGING,
}
