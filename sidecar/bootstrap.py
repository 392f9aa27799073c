"""The command line, the environment and the bootstrap file. No other module reads the environment."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sidecar.application.flags import parse_app_probers, parse_prometheus_scrape
from sidecar.config.bootstrap import Ads, AdsVariant, Bootstrap, Settings
from sidecar.config.tls import TlsCertificate, Validation
from sidecar.errors import BootstrapError, ConfigError
from sidecar.xds.decode import decode_bootstrap

__all__ = ["Ads", "AdsVariant", "Bootstrap", "Settings", "load", "parse_arguments"]

_LOG = logging.getLogger(__name__)

_Parsed = TypeVar("_Parsed")

_PREFIX = "OUTRIGGER_"
_LOG_LEVELS = ("trace", "debug", "info", "warning", "warn", "error", "critical", "off")
_ACCESS_LOGS = ("off", "text", "json")
_MINIMUM_CERTIFICATE_LIFETIME_S = 1.0
# Far above any real file; a path like /dev/zero must not fill the memory.
_MAX_FILE_BYTES = 64 * 1024 * 1024


def parse_arguments(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """``argv`` without the program's name. A flag that is not on the command line is read from the
    environment variable ``OUTRIGGER_<FLAG>``. Raises `BootstrapError`; ``--help`` exits as in argparse."""
    arguments = _parser(environ).parse_args(argv)
    if arguments.config_path is None and not arguments.config_yaml:
        raise BootstrapError("a bootstrap file is required: --config-path FILE or --config-yaml TEXT")
    return Settings(token=environ.get(f"{_PREFIX}TOKEN", "").strip(), **vars(arguments))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise BootstrapError(message)


class _Flags:
    """Adds flags whose defaults come from the environment; argparse checks them like arguments."""

    def __init__(self, parser: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
        self._parser = parser
        self._environ = environ

    def add(self, *names: str, default: Any = None, **options: Any) -> None:
        variable = _PREFIX + names[-1].removeprefix("--").replace("-", "_").upper()
        default = self._environ.get(variable, default)
        self._parser.add_argument(*names, default=default, **options)


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m sidecar",
        description="A service mesh's sidecar proxy.",
        epilog=f"Each flag can also be set in the environment: {_PREFIX}CACHE_DIR for --cache-dir.",
        allow_abbrev=False,
    )
    flags = _Flags(parser, environ)
    defaults = Settings()
    flags.add("-c", "--config-path", type=Path, help="an Envoy v3 bootstrap file, YAML or JSON")
    flags.add("--config-yaml", default="", help="YAML whose top-level fields override the file's")
    flags.add("--service-node", default="", help="the node's id; overrides the file's")
    flags.add("--service-cluster", default="", help="the node's cluster; overrides the file's")
    flags.add(
        "-l",
        "--log-level",
        default=defaults.log_level,
        choices=_LOG_LEVELS,
        help="lowest level to log (default: %(default)s)",
    )
    flags.add("--concurrency", type=_concurrency, default=1, help="worker threads; only 1 is supported")
    flags.add(
        "--drain-time-s",
        type=_seconds,
        default=defaults.drain_time_s,
        help="maximum drain time after SIGTERM (default: %(default)s)",
    )
    flags.add("--cache-dir", type=Path, help="the folder in which the last good configuration is stored")
    flags.add("--ca-address", default="", help="host:port of the CA that signs the workload's certificate")
    flags.add("--ca-cert", type=Path, help="PEM roots of the CA's own certificate")
    flags.add("--token-file", type=Path, help="the bearer token; read each time it is needed")
    flags.add(
        "--certificate-lifetime",
        dest="certificate_lifetime_s",
        type=_lifetime,
        default=defaults.certificate_lifetime_s,
        metavar="SECONDS",
        help="the requested lifetime; renewal is at half of the granted one (default: %(default)s)",
    )
    flags.add(
        "--trust-domain",
        default=defaults.trust_domain,
        help="the trust domain of the mesh (default: %(default)s)",
    )
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
        help="where the application serves metrics, which are appended to the sidecar's",
    )
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
    flags.add("--addresses-file", type=Path, help="a file for the bound addresses, as JSON")
    flags.add(
        "--access-log",
        default=defaults.access_log,
        choices=_ACCESS_LOGS,
        help="format of the access log on stdout (default: %(default)s)",
    )
    return parser


def _concurrency(text: str) -> int:
    if text != "1":
        raise argparse.ArgumentTypeError(f"{text!r}: only 1 is supported")
    return 1


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


def _json(parse: Callable[[str], _Parsed]) -> Callable[[str], _Parsed]:
    """``parse`` as a type of argparse, which shows only the messages of its own errors."""

    def parsed(text: str) -> _Parsed:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


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


def load(settings: Settings) -> Bootstrap:
    """Reads the bootstrap file. The files that it names for secrets and for the control plane's TLS must be
    readable; their content is read when it is needed, since it may change.

    Raises `BootstrapError` with one line that names the file, the field and the reason.
    """
    source = str(settings.config_path) if settings.config_path else "--config-yaml"
    document = _document(settings, source)
    try:
        bootstrap = decode_bootstrap(
            document,
            node_id=settings.service_node,
            node_cluster=settings.service_cluster,
            warn=lambda text: _LOG.warning("%s: %s", source, text),
        )
    except ConfigError as error:
        raise BootstrapError(f"{source}: {error}") from None
    if bootstrap.ads is not None and not bootstrap.node_id:
        raise BootstrapError(
            f"{source}: node.id: missing, but required by dynamic_resources; use --service-node"
        )
    for named in _named_files(bootstrap):
        _read(named)
    return bootstrap


def _document(settings: Settings, source: str) -> Mapping[str, Any]:
    document: dict[str, Any] = {}
    if settings.config_path is not None:
        document |= _parse(_read(settings.config_path), source)
    if settings.config_yaml:
        document |= _parse(settings.config_yaml.encode(), "--config-yaml")
    return document


def _read(path: Path | str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BootstrapError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise BootstrapError(f"{path}: is larger than {_MAX_FILE_BYTES} bytes")
    return content


class _Loader(yaml.CSafeLoader):
    """Refuses duplicate keys, of which PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in keys:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key!r}", problem_mark=key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


def _parse(content: bytes, source: str) -> Mapping[str, Any]:
    """YAML, which includes JSON."""
    try:
        document = yaml.load(content, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise BootstrapError(f"{source}: {_yaml_reason(error)}") from None
    if not isinstance(document, dict):
        raise BootstrapError(f"{source}: not a mapping")
    return document


def _yaml_reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return f"invalid YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}"


def _named_files(bootstrap: Bootstrap) -> Iterator[str]:
    for secret in bootstrap.static.secrets.values():
        yield from _files(secret.certificate, secret.validation)
    if bootstrap.ads is not None and bootstrap.ads.tls is not None:
        parameters = bootstrap.ads.tls.parameters
        yield from _files(parameters.certificate, parameters.validation)


def _files(certificate: TlsCertificate | None, validation: Validation | None) -> Iterator[str]:
    sources = [] if certificate is None else [certificate.certificate_chain, certificate.private_key]
    if validation is not None and validation.trusted_ca is not None:
        sources.append(validation.trusted_ca)
    for source in sources:
        if source.filename is not None:
            yield source.filename
