"""Parses the values of annotations. Every function raises ``ValueError`` with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from controlplane.injection.config import DataPlane
from controlplane.injection.pod import JsonObject
from controlplane.model.proxy import InterceptionMode
from controlplane.model.proxy_config import ProxyConfig, without_ignored
from controlplane.resources.base import invalid
from controlplane.resources.error_messages import explain
from controlplane.yaml_documents import YamlError, read_documents

_NOT_OVERRIDDEN: Final = ("admin", "dynamicResources", "dynamic_resources", "node")
_LOG_LEVELS: Final = ("trace", "debug", "info", "warning", "warn", "error", "critical", "off")


def boolean(text: str) -> bool:
    """Parses the spellings of Go's ``strconv.ParseBool``. Raises ``ValueError``."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise invalid("should be true or false")


def number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**31):
        raise invalid("should be a number, 0 or more")
    return int(text)


def positive_number(text: str) -> int:
    value = number(text)
    if value == 0:
        raise invalid("should be a number, 1 or more")
    return value


def port_or_zero(text: str) -> int:
    value = number(text)
    if value > 65535:
        raise invalid("should be a port number, or 0")
    return value


def json_value(text: str) -> Any:
    """Parses JSON. Raises ``ValueError``, also for NaN and Infinity, which only Python accepts."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise invalid("is nested too deep") from error
    except ValueError as error:
        raise invalid(f"is not JSON: {error}") from error


def _no_constant(name: str) -> Any:
    raise invalid(f"{name} is not a number of JSON")


def yaml_mapping(text: str) -> dict[str, Any]:
    """Parses a YAML mapping. Raises ``ValueError``."""
    try:
        documents = list(read_documents(text))
    except YamlError as error:
        raise invalid(f"is not YAML: {error}") from error
    if not documents:
        return {}
    if len(documents) > 1 or not isinstance(documents[0].value, dict):
        raise invalid("should be one YAML mapping")
    return documents[0].value


def bootstrap_override(text: str) -> dict[str, Any]:
    """Parses the mapping that is merged into the bootstrap document. It cannot change who the proxy is, from
    where it gets its configuration, or who reaches its admin interface, which has no passwords."""
    override = yaml_mapping(text)
    for field in _NOT_OVERRIDDEN:
        if field in override:
            raise invalid(f"the field {field} is set by the injector")
    try:
        json.dumps(override, allow_nan=False)
    except ValueError as error:
        raise invalid("contains a number that JSON does not have") from error
    return override


def proxy_config(text: str) -> tuple[ProxyConfig, list[str]]:
    fields, ignored = without_ignored(yaml_mapping(text))
    try:
        return ProxyConfig.model_validate(fields), ignored
    except ValidationError as error:
        raise invalid("; ".join(map(str, explain(error, ProxyConfig, "config")))) from error


def data_plane(text: str) -> DataPlane:
    try:
        return DataPlane(text)
    except ValueError:
        raise invalid(f"should be one of {', '.join(DataPlane)}") from None


def interception(text: str) -> InterceptionMode:
    try:
        return InterceptionMode(text)
    except ValueError:
        raise invalid(f"should be one of {', '.join(mode.value for mode in InterceptionMode)}") from None


def log_level(text: str) -> str:
    if text not in _LOG_LEVELS:
        raise invalid(f"should be one of {', '.join(_LOG_LEVELS)}")
    return text


def agent_log_level(text: str) -> str:
    """Istio's agents have scopes (``default:debug``); ours has one."""
    return log_level(text.removeprefix("default:"))


def boolean_or(text: str, default: bool) -> bool:
    """An invalid value means the default, as in Istio."""
    try:
        return boolean(text)
    except ValueError:
        return default


def not_empty(text: str) -> str:
    if not text.strip():
        raise invalid("should not be empty")
    return text.strip()


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def named_objects(text: str) -> tuple[JsonObject, ...]:
    """Parses a list of objects with names, or Istio's other form: objects by name."""
    value = json_value(text)
    if isinstance(value, Mapping) and all(isinstance(item, dict) for item in value.values()):
        value = [{"name": name, **item} for name, item in value.items()]
    if not isinstance(value, list) or not all(_is_named(item) for item in value):
        raise invalid("should be a JSON list of objects with a name, or an object with names as keys")
    return tuple(value)


def mounts(text: str) -> tuple[JsonObject, ...]:
    mounts = named_objects(text)
    if not all(isinstance(mount.get("mountPath"), str) for mount in mounts):
        raise invalid("each mount should have a mountPath")
    return mounts


def _is_named(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str) and bool(item["name"])
