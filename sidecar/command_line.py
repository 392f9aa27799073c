"""Flags with defaults from the environment, and those that the sidecar and the agent of an Envoy share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from sidecar.application.flags import parse_app_probers, parse_prometheus_scrape
from sidecar.config.bootstrap import CaProvider, Settings
from sidecar.errors import BootstrapError

_Parsed = TypeVar("_Parsed")

PREFIX: Final = "OUTRIGGER_"
_LOG_LEVELS: Final = ("trace", "debug", "info", "warning", "warn", "error", "critical", "off")
_MINIMUM_CERTIFICATE_LIFETIME_S: Final = 1.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise BootstrapError(message)


class Flags:
    """The flags of one program; argparse checks values from the environment like arguments."""

    def __init__(self, program: str, description: str, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._parser = _Parser(
            prog=program,
            description=description,
            epilog=f"Each flag can also be set in the environment: {PREFIX}CACHE_DIR for --cache-dir.",
            allow_abbrev=False,
        )

    def add(self, *names: str, default: Any = None, **options: Any) -> None:
        variable = PREFIX + names[-1].removeprefix("--").replace("-", "_").upper()
        default = self._environ.get(variable, default)
        self._parser.add_argument(*names, default=default, **options)

    def parse(self, argv: Sequence[str]) -> dict[str, Any]:
        """The values by the names of `Settings`. Raises `BootstrapError`; ``--help`` exits as in argparse."""
        return {
            **vars(self._parser.parse_args(argv)),
            "token": self._environ.get(f"{PREFIX}TOKEN", "").strip(),
        }


def add_process_flags(flags: Flags) -> None:
    defaults = Settings()
    flags.add(
        "-l",
        "--log-level",
        default=defaults.log_level,
        choices=_LOG_LEVELS,
        help="lowest level to log (default: %(default)s)",
    )
    flags.add(
        "--drain-time-s",
        type=_seconds,
        default=defaults.drain_time_s,
        help="maximum drain time after SIGTERM (default: %(default)s)",
    )
    flags.add("--cache-dir", type=Path, help="the folder in which the last good configuration is stored")


def add_identity_flags(flags: Flags) -> None:
    defaults = Settings()
    flags.add("--ca-address", default="", help="host:port of the CA that signs the workload's certificate")
    flags.add(
        "--ca-provider",
        type=_ca_provider,
        metavar="|".join(provider.value for provider in CaProvider),
        help="the signing service at that address; Citadel is an istiod (default: by the token's audience)",
    )
    flags.add("--ca-cert", type=Path, help="PEM roots of the CA's own certificate")
    flags.add("--token-file", type=Path, help="the bearer token; read each time it is needed")
    flags.add(
        "--certificate-lifetime",
        dest="certificate_lifetime_s",
        type=_lifetime,
        default=defaults.certificate_lifetime_s,
        metavar="SECONDS",
        help="the requested lifetime; renewal is at half of the granted one (default: the CA decides)",
    )
    flags.add(
        "--trust-domain",
        default=defaults.trust_domain,
        help="the trust domain of the mesh (default: %(default)s)",
    )


def add_pod_flags(flags: Flags) -> None:
    """The ports for the kubelet and Prometheus."""
    defaults = Settings()
    flags.add(
        "--status-port",
        type=_port,
        default=defaults.status_port,
        help="serves /healthz/ready; 'off': none (default: %(default)s)",
    )
    flags.add(
        "--metrics-port",
        type=_port,
        default=defaults.metrics_port,
        help="serves metrics and the application's probes; 'off': none (default: %(default)s)",
    )
    flags.add(
        "--app-probers",
        type=_json(parse_app_probers),
        default="",
        metavar="JSON",
        help="the application's probes, by path on the metrics port",
    )
    flags.add(
        "--prometheus-scrape",
        type=_json(parse_prometheus_scrape),
        default="",
        metavar="JSON",
        help="where the application serves metrics, which are appended to the proxy's",
    )
    flags.add("--addresses-file", type=Path, help="a file for the bound addresses, as JSON")


def add_dns_flags(flags: Flags) -> None:
    defaults = Settings()
    flags.add(
        "--dns-capture",
        type=_boolean,
        default=defaults.dns_capture,
        metavar="true|false",
        help="answer the DNS queries of the pod, from the mesh or from its resolvers (default: false)",
    )
    flags.add(
        "--dns-port",
        type=_port_number,
        default=defaults.dns_port,
        help="the port on loopback for DNS, UDP and TCP (default: %(default)s)",
    )


def _ca_provider(text: str) -> CaProvider:
    for provider in CaProvider:
        if text.lower() == provider.value.lower():
            return provider
    known = ", ".join(provider.value for provider in CaProvider)
    raise argparse.ArgumentTypeError(f"{text!r}: expected one of {known}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid number of seconds {text!r}") from None
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be 0 or more seconds")
    return seconds


def _lifetime(text: str) -> float:
    seconds = _seconds(text)
    if seconds < _MINIMUM_CERTIFICATE_LIFETIME_S:
        raise argparse.ArgumentTypeError(f"{text!r}: the minimum is 1 second")
    return seconds


def _port(text: str) -> int | None:
    return None if text == "off" else _port_number(text)


def _port_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"invalid port {text!r}")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected true or false")
    return text.lower() == "true"


def _json(parse: Callable[[str], _Parsed]) -> Callable[[str], _Parsed]:
    """``parse`` as a type of argparse, which shows only the messages of its own errors."""

    def parsed(text: str) -> _Parsed:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed
