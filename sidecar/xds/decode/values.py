"""Small messages that several resources contain: addresses, metadata, data sources, header mutations."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

from sidecar.config.endpoint import SocketAddress
from sidecar.config.fraction import Fraction
from sidecar.config.route import NO_HEADER_OPERATIONS, AppendAction, HeaderOperations, HeaderValue
from sidecar.config.tls import DataSource
from sidecar.xds.decode.support import NO_READER, SupportTable, support
from sidecar.xds.decode.view import View

# RFC 9110 5.6.2: a field's name is a token.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_UNSAFE_IN_HEADER = re.compile(r"[\x00\r\n]")


TABLE: Final[SupportTable] = {
    "envoy.config.core.v3.Address": support("socket_address"),
    "envoy.config.core.v3.SocketAddress": support("address port_value ipv4_compat"),
    "envoy.config.core.v3.CidrRange": support("address_prefix prefix_len"),
    "envoy.config.core.v3.DataSource": support("filename inline_bytes inline_string"),
    "envoy.config.core.v3.Metadata": support("filter_metadata", typed_filter_metadata=NO_READER),
    "envoy.config.core.v3.HeaderValue": support("key value"),
    "envoy.config.core.v3.HeaderValueOption": support("header append append_action keep_empty_value"),
    "envoy.type.v3.Percent": support("value"),
    "envoy.type.v3.FractionalPercent": support("numerator denominator"),
    "envoy.config.core.v3.RuntimeFractionalPercent": support("default_value"),
}

_DENOMINATORS: Final = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}


def decode_fraction(view: View) -> Fraction:
    """A ``FractionalPercent``."""
    return Fraction(
        numerator=view.message.numerator, denominator=_DENOMINATORS[view.enum_name("denominator")]
    )


def decode_runtime_fraction(view: View, field: str, default: Fraction) -> Fraction:
    """A ``RuntimeFractionalPercent``; its runtime key is not supported."""
    return decode_fraction(view.get(field).get("default_value")) if view.has(field) else default


def decode_ip_address(view: View) -> SocketAddress:
    """An ``Address`` that a socket is bound or connected to."""
    return decode_socket_ip(view.get("socket_address"))


def decode_socket_ip(view: View) -> SocketAddress:
    """A ``SocketAddress`` whose host is an IP address."""
    host = view.message.address
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise view.error(f"{host!r} is not an IP address", "address") from None
    return SocketAddress(host, view.message.port_value)


def decode_address(view: View) -> SocketAddress:
    """An ``Address`` whose host may be a name."""
    socket_address = view.get("socket_address")
    message = socket_address.message
    return SocketAddress(message.address, message.port_value)


def decode_cidr(view: View) -> str:
    address, length = view.message.address_prefix, view.wrapped("prefix_len", 0)
    try:
        return str(ipaddress.ip_network(f"{address}/{length}", strict=False))
    except ValueError as error:
        raise view.error(str(error)) from None


def decode_data_source(view: View) -> DataSource:
    message = view.message
    specifier = view.which("specifier")
    if specifier == "filename":
        return DataSource(filename=message.filename)
    if specifier == "inline_string":
        return DataSource(inline=message.inline_string.encode())
    return DataSource(inline=message.inline_bytes)


def metadata_strings(metadata: Any, namespace: str) -> Mapping[str, str]:
    """A namespace of ``Metadata.filter_metadata``. Numbers and booleans are written as in JSON."""
    if namespace not in metadata.filter_metadata:
        return {}
    return struct_strings(metadata.filter_metadata[namespace])


def struct_strings(struct: Any) -> Mapping[str, str]:
    return {key: _scalar_text(value) for key, value in struct.fields.items()}


def _scalar_text(value: Any) -> str:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return str(value.string_value)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "number_value":
        return f"{value.number_value:.17g}"
    return ""


HEADER_OPERATIONS: Final = (
    "request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove"
)
"""The fields that `decode_header_operations` reads."""


def decode_header_operations(view: View) -> HeaderOperations:
    """The four header fields that route configurations, virtual hosts, routes and clusters share."""
    message = view.message
    if not (
        message.request_headers_to_add
        or message.request_headers_to_remove
        or message.response_headers_to_add
        or message.response_headers_to_remove
    ):
        return NO_HEADER_OPERATIONS
    return HeaderOperations(
        request_set=_header_values(view, "request_headers_to_add"),
        request_remove=_header_names(view, "request_headers_to_remove"),
        response_set=_header_values(view, "response_headers_to_add"),
        response_remove=_header_names(view, "response_headers_to_remove"),
    )


def _header_values(view: View, field: str) -> tuple[HeaderValue, ...]:
    decoded = (decode_header_value(option) for option in view.each(field))
    return tuple(value for value in decoded if value is not None)


def decode_header_value(option: View) -> HeaderValue | None:
    """None for an empty value, which Envoy adds only if ``keep_empty_value`` is set."""
    header = option.get("header")
    name = decode_header_name(header, "key", header.message.key)
    value = _literal(header, header.message.value)
    if not value and not option.message.keep_empty_value:
        return None
    return HeaderValue(name=name, value=value, action=_append_action(option))


def _append_action(option: View) -> AppendAction:
    action = AppendAction(option.message.append_action)
    if not option.has("append"):
        return action
    if action is not AppendAction.APPEND_IF_EXISTS_OR_ADD:
        raise option.error("append and append_action must not both be set")
    return action if option.message.append.value else AppendAction.OVERWRITE_IF_EXISTS_OR_ADD


def _literal(header: View, value: str) -> bytes:
    """The value as a literal. Raises `ConfigError` for Envoy's command operators, which are written between
    percent signs; ``%%`` is a percent sign."""
    pieces = value.split("%%")
    for piece in pieces:
        if "%" in piece:
            operator = "%" + piece.partition("%")[2]
            raise header.error(
                f"the command operator in {operator!r} is not supported; use %% for a percent sign", "value"
            )
    return "%".join(pieces).encode()


def check_header_text(view: View, field: str) -> str:
    """A string that becomes the value of a header. Raises `ConfigError` for a character that ends a line."""
    text = str(getattr(view.message, field))
    if _UNSAFE_IN_HEADER.search(text):
        raise view.error("contains a NUL, a carriage return or a newline", field)
    return text


def _header_names(view: View, field: str) -> tuple[bytes, ...]:
    names = getattr(view.message, field)
    return tuple(decode_header_name(view, f"{field}[{index}]", name) for index, name in enumerate(names))


def decode_header_name(view: View, field: str, name: str) -> bytes:
    if name.startswith(":") or name.lower() == "host":
        raise view.error(
            f"{name!r} is not supported; only rewrites of the route change such a header",
            field,
        )
    if not _TOKEN.match(name):
        raise view.error(f"{name!r} is not a header name", field)
    return name.lower().encode()
