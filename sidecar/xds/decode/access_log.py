"""Access logs: to a file, to standard output or to standard error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.config.listener import AccessLog
from sidecar.xds.decode.view import View

_FILE = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
_STDOUT = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
_STDERR = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog"
_STREAMS = {_STDOUT: "/dev/stdout", _STDERR: "/dev/stderr"}


def decode_access_logs(view: View) -> tuple[AccessLog, ...]:
    """The field ``access_log`` of a listener or of a terminal filter."""
    return tuple(_access_log(log) for log in view.each("access_log"))


def _access_log(view: View) -> AccessLog:
    config = view.unpack("typed_config", _FILE, _STDOUT, _STDERR)
    stream = _STREAMS.get(config.message.DESCRIPTOR.full_name)
    if config.has("log_format"):
        return AccessLog(path=stream or config.message.path, format=_log_format(config.get("log_format")))
    if stream is not None:
        return AccessLog(path=stream)
    return AccessLog(path=config.message.path, format=_old_format(config))


def _old_format(config: View) -> str | Mapping[str, str] | None:
    """The fields of ``FileAccessLog`` that ``log_format`` has replaced."""
    if config.which("access_log_format") == "json_format":
        return _json_format(config, config.message.json_format)
    return config.message.format or None


def _log_format(view: View) -> str | Mapping[str, str] | None:
    kind = view.which("format")
    if kind == "json_format":
        return _json_format(view, view.message.json_format)
    if kind == "text_format_source":
        source = view.get(kind)
        if source.which("specifier") != "inline_string":
            raise source.error("only inline_string is supported here")
        return str(source.message.inline_string)
    return view.message.text_format or None


def _json_format(view: View, struct: Any) -> Mapping[str, str]:
    for key, value in struct.fields.items():
        if value.WhichOneof("kind") != "string_value":
            raise view.error("only strings are supported", f"json_format[{key}]")
    return {key: value.string_value for key, value in struct.fields.items()}
