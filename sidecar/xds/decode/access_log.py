"""Access logs that are written to a file, to standard output or to standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from sidecar.config.listener import AccessLog, JsonFormat
from sidecar.xds.decode.support import TYPE_DECIDES, SupportTable, support
from sidecar.xds.decode.view import View

_FILE = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
_STDOUT = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
_STDERR = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog"
_STREAMS = {_STDOUT: "/dev/stdout", _STDERR: "/dev/stderr"}


TABLE: Final[SupportTable] = {
    "envoy.config.accesslog.v3.AccessLog": support("filter typed_config", name=TYPE_DECIDES),
    "envoy.config.accesslog.v3.AccessLogFilter": support("response_flag_filter"),
    "envoy.config.accesslog.v3.ResponseFlagFilter": support("flags"),
    _FILE: support("path format json_format typed_json_format log_format"),
    _STDOUT: support("log_format"),
    _STDERR: support("log_format"),
    "envoy.config.core.v3.SubstitutionFormatString": support(
        "text_format json_format text_format_source omit_empty_values",
        content_type="a file has no content type",
    ),
}


def decode_access_logs(view: View) -> tuple[AccessLog, ...]:
    """The field ``access_log`` of a listener or of a terminal filter."""
    return tuple(_access_log(log) for log in view.each("access_log"))


def _access_log(view: View) -> AccessLog:
    config = view.unpack("typed_config", _FILE, _STDOUT, _STDERR)
    path = _STREAMS.get(config.message.DESCRIPTOR.full_name) or config.message.path
    flags = _response_flags(view)
    if config.has("log_format"):
        format_ = config.get("log_format")
        return AccessLog(
            path=path,
            format=_log_format(format_),
            omit_empty_values=format_.message.omit_empty_values,
            response_flags=flags,
        )
    if config.message.DESCRIPTOR.full_name in _STREAMS:
        return AccessLog(path=path, response_flags=flags)
    return AccessLog(path=path, format=_old_format(config), response_flags=flags)


def _response_flags(view: View) -> frozenset[str] | None:
    """``AccessLog.filter``. istiod sends ``NR`` for the access logs of listeners."""
    if not view.has("filter"):
        return None
    return frozenset(view.get("filter").get("response_flag_filter").message.flags)


def _old_format(config: View) -> str | Mapping[str, JsonFormat] | None:
    """The fields of ``FileAccessLog`` that ``log_format`` has replaced."""
    kind = config.which("access_log_format")
    if kind in ("json_format", "typed_json_format"):
        return _json_format(config, kind)
    return config.message.format or None


def _log_format(view: View) -> str | Mapping[str, JsonFormat] | None:
    kind = view.which("format")
    if kind == "json_format":
        return _json_format(view, kind)
    if kind == "text_format_source":
        source = view.get(kind)
        if source.which("specifier") != "inline_string":
            raise source.error("only inline_string is supported")
        return str(source.message.inline_string)
    return view.message.text_format or None


def _json_format(view: View, field: str) -> Mapping[str, JsonFormat]:
    struct = getattr(view.message, field)
    try:
        return _object(struct)
    except ValueError as error:
        raise view.error(str(error), field) from error


def _object(struct: Any) -> Mapping[str, JsonFormat]:
    """Sorted by name, as Envoy writes it, since the entries of a protobuf map have no order."""
    return {name: _json_value(value) for name, value in sorted(struct.fields.items())}


def _json_value(value: Any) -> JsonFormat:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _object(value.struct_value)
    if kind == "list_value":
        return tuple(_json_value(item) for item in value.list_value.values)
    if kind == "number_value":
        number = value.number_value
        if not math.isfinite(number):
            raise ValueError(f"{number} has no JSON form")
        return int(number) if number.is_integer() else number
    return getattr(value, kind) if kind in ("string_value", "bool_value") else None
