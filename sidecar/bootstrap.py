"""The command line, the environment and the bootstrap file. No other module reads the environment."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sidecar.command_line import Flags, add_dns_flags, add_identity_flags, add_pod_flags, add_process_flags
from sidecar.config.bootstrap import Ads, AdsVariant, Bootstrap, Settings
from sidecar.config.tls import TlsCertificate, Validation
from sidecar.errors import BootstrapError, ConfigError
from sidecar.usable_cores import usable_cores
from sidecar.yaml_document import parse_document

__all__ = ["Ads", "AdsVariant", "Bootstrap", "Settings", "load", "parse_arguments"]

_LOG = logging.getLogger(__name__)

_ACCESS_LOGS = ("off", "text", "json")
_MOST_WORKERS = 256
# Far above any real file; a path like /dev/zero must not fill the memory.
_MAX_FILE_BYTES = 64 * 1024 * 1024


def parse_arguments(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """``argv`` without the program's name. A flag that is not on the command line is read from the
    environment variable ``OUTRIGGER_<FLAG>``. Raises `BootstrapError`; ``--help`` exits as in argparse."""
    settings = Settings(**_flags(environ).parse(argv))
    if settings.config_path is None and not settings.config_yaml:
        raise BootstrapError("a bootstrap file is required: --config-path FILE or --config-yaml TEXT")
    return settings


def _flags(environ: Mapping[str, str]) -> Flags:
    flags = Flags("python -m sidecar", "A service mesh's sidecar proxy.", environ)
    flags.add("-c", "--config-path", type=Path, help="an Envoy v3 bootstrap file, YAML or JSON")
    flags.add("--config-yaml", default="", help="YAML whose top-level fields override the file's")
    flags.add("--service-node", default="", help="the node's id; overrides the file's")
    flags.add("--service-cluster", default="", help="the node's cluster; overrides the file's")
    add_process_flags(flags)
    flags.add(
        "--concurrency",
        type=_concurrency,
        default=Settings().concurrency,
        metavar="N",
        help="worker processes; 0: as many as the CPU quota allows (default: %(default)s)",
    )
    add_identity_flags(flags)
    add_pod_flags(flags)
    add_dns_flags(flags)
    flags.add(
        "--access-log",
        default=Settings().access_log,
        choices=_ACCESS_LOGS,
        help="format of the access log on stdout (default: %(default)s)",
    )
    return flags


def _concurrency(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _MOST_WORKERS):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to {_MOST_WORKERS}")
    return int(text) or usable_cores()


def load(settings: Settings) -> Bootstrap:
    """Reads the bootstrap file. The files that it names for secrets and for the control plane's TLS must be
    readable; their content is read when it is needed, since it may change.

    Raises `BootstrapError` with one line that names the file, the field and the reason.
    """
    source = str(settings.config_path) if settings.config_path else "--config-yaml"
    document = _document(settings, source)
    # Protobuf, which the master of several workers must not import.
    from sidecar.xds.decode import decode_bootstrap  # noqa: PLC0415

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
        document |= parse_document(_read(settings.config_path), source)
    if settings.config_yaml:
        document |= parse_document(settings.config_yaml.encode(), "--config-yaml")
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
