"""A bootstrap file, parsed and checked. Reads no file itself."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf import json_format

from protos.envoy_runtime import REGEX_SIZE_KEY
from sidecar.build_info import VERSION
from sidecar.config.bootstrap import Bootstrap
from sidecar.errors import ConfigError
from sidecar.xds.decode.bootstrap_message import decode_bootstrap_message
from sidecar.xds.decode.dns import names_cares
from sidecar.xds.decode.json_form import to_json
from sidecar.xds.decode.rules import join
from sidecar.xds.decode.supported import SUPPORTED
from sidecar.xds.decode.unknown_types import hide, restore
from sidecar.xds.decode.view import View, check
from sidecar.xds.messages import message_class

# Only Envoy reads this key: it has no effect on regular expressions here.
_EXPECTED_RUNTIME_KEYS = frozenset({REGEX_SIZE_KEY})
_UNKNOWN_FIELD = re.compile(
    r'Message type "(?P<type>[^"]+)" has no field named "(?P<field>[^"]+)"(?: at "(?P<path>[^"]*)")?\.?'
)
_LEVELS = re.compile(r"Failed to parse (\w+) field: ")


def decode_bootstrap(
    document: Mapping[str, Any],
    *,
    node_id: str = "",
    node_cluster: str = "",
    warn: Callable[[str], None],
) -> Bootstrap:
    """``document`` is the file's YAML or JSON. ``node_id`` and ``node_cluster`` override those of the file.

    Raises `ConfigError`. ``warn`` is called for each part of the file that has no effect.
    """
    message = _parse(document)
    message.node.id = node_id or message.node.id
    message.node.cluster = node_cluster or message.node.cluster
    if not message.node.user_agent_name:
        message.node.user_agent_name = "outrigger"
        message.node.user_agent_version = VERSION
    check(message, SUPPORTED)
    for field, reason in _without_effect(message):
        if field != "layered_runtime" or _has_other_runtime_keys(message.layered_runtime):
            warn(f"{field} has no effect: {reason}")
    view = View(message, SUPPORTED)
    if view.has("typed_dns_resolver_config") and not names_cares(view):
        warn("typed_dns_resolver_config has no effect: c-ares is the only resolver")
    return decode_bootstrap_message(
        view, message=message.SerializeToString(), node_document=to_json(message.node)
    )


def _parse(document: Mapping[str, Any]) -> Any:
    message = message_class("envoy.config.bootstrap.v3.Bootstrap")()
    try:
        json_format.ParseDict(hide(document, message.DESCRIPTOR), message)
    except json_format.ParseError as error:
        raise _readable_error(str(error)) from None
    except (TypeError, ValueError, AttributeError) as error:
        # ParseDict raises these for values of the wrong JSON type, such as a list instead of a mapping.
        raise ConfigError("", f"is not a valid bootstrap file: {error}") from None
    restore(message)
    return message


def _readable_error(error: str) -> ConfigError:
    """protobuf's message has the field at its end, after a prefix for each level, and lists all known
    fields."""
    found = _UNKNOWN_FIELD.search(error)
    if found is not None:
        return _unknown_field(found, error.partition("Available Fields")[2])
    reason = _LEVELS.sub("", error.partition("\n")[0]).rstrip(".")
    reason, _, path = reason.partition(" at Bootstrap.")
    return ConfigError(path or ".".join(_LEVELS.findall(error)), reason)


def _unknown_field(found: re.Match[str], available: str) -> ConfigError:
    parent, field = (found["path"] or "").removeprefix("Bootstrap").lstrip("."), found["field"]
    near = difflib.get_close_matches(field, re.findall(r"'([^']+)'", available), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    path = parent if parent.endswith(field) else join(parent, field)
    return ConfigError(path, f"{found['type']} has no such field{hint}")


def _without_effect(message: Any) -> Iterator[tuple[str, str]]:
    """The fields of the bootstrap file that are set and have no effect, with the reason."""
    reasons = SUPPORTED[message.DESCRIPTOR.full_name].without_effect
    for field, _ in message.ListFields():
        if field.name in reasons:
            yield field.name, reasons[field.name]


def _has_other_runtime_keys(runtime: Any) -> bool:
    """Whether a layer has, or can get, other keys than those of the printed bootstrap file."""
    return any(
        layer.WhichOneof("layer_specifier") not in ("static_layer", "admin_layer")
        or not _EXPECTED_RUNTIME_KEYS.issuperset(layer.static_layer.keys())
        for layer in runtime.layers
    )
