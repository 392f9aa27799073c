"""The tracing options of connection managers and routes, and custom tags."""

from __future__ import annotations

from typing import Final

from sidecar.config.fraction import ALL, Fraction
from sidecar.config.tracing import (
    CustomTag,
    Decorator,
    EnvironmentTag,
    LiteralTag,
    MetadataSource,
    MetadataTag,
    RequestHeaderTag,
    RequestIdOptions,
    RouteTracing,
    Sampling,
    Tracing,
)
from sidecar.xds.decode.support import NO_TRACING, SupportTable, support
from sidecar.xds.decode.values import check_header_text, decode_fraction
from sidecar.xds.decode.view import View

_HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTE = "envoy.config.route.v3"
_TAG = "envoy.type.tracing.v3.CustomTag"
_METADATA = "envoy.type.metadata.v3"
UUID_REQUEST_ID: Final = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"

TABLE: Final[SupportTable] = {
    f"{_HTTP}.Tracing": support(
        "client_sampling random_sampling overall_sampling",
        kept="verbose max_path_tag_length custom_tags spawn_upstream_span",
        provider=NO_TRACING,
    ),
    UUID_REQUEST_ID: support("pack_trace_reason use_request_id_for_trace_sampling"),
    f"{_ROUTE}.Tracing": support("client_sampling random_sampling overall_sampling", kept="custom_tags"),
    f"{_ROUTE}.Decorator": support("operation propagate"),
    _TAG: support(kept="tag literal environment request_header metadata"),
    f"{_TAG}.Literal": support(kept="value"),
    f"{_TAG}.Environment": support(kept="name default_value"),
    f"{_TAG}.Header": support(kept="name default_value"),
    f"{_TAG}.Metadata": support(kept="kind metadata_key default_value"),
    f"{_METADATA}.MetadataKind": support(kept="request route cluster host"),
    f"{_METADATA}.MetadataKind.Request": support(),
    f"{_METADATA}.MetadataKind.Route": support(),
    f"{_METADATA}.MetadataKind.Cluster": support(),
    f"{_METADATA}.MetadataKind.Host": support(),
    f"{_METADATA}.MetadataKey": support(kept="key path"),
    f"{_METADATA}.MetadataKey.PathSegment": support(kept="key"),
}


def decode_tracing(view: View | None) -> Tracing | None:
    """``HttpConnectionManager.Tracing``."""
    if view is None:
        return None
    return Tracing(
        sampling=Sampling(
            client=_percentage(view, "client_sampling", 100),
            random=_percentage(view, "random_sampling", 10_000),
            overall=_percentage(view, "overall_sampling", 10_000),
        ),
        verbose=view.message.verbose,
        max_path_tag_length=view.wrapped("max_path_tag_length", 256),
        custom_tags=_custom_tags(view),
        spawn_upstream_span=view.wrapped("spawn_upstream_span", False),
    )


def decode_route_tracing(view: View | None) -> RouteTracing | None:
    if view is None:
        return None
    return RouteTracing(
        sampling=Sampling(
            client=_fraction(view, "client_sampling"),
            random=_fraction(view, "random_sampling"),
            overall=_fraction(view, "overall_sampling"),
        ),
        custom_tags=_custom_tags(view),
    )


def decode_decorator(view: View | None) -> Decorator | None:
    """Envoy puts the operation into headers of requests and responses."""
    if view is None:
        return None
    return Decorator(
        operation=check_header_text(view, "operation"), propagate=view.wrapped("propagate", True)
    )


def decode_request_id(view: View) -> RequestIdOptions:
    """The ``request_id_extension`` of a connection manager."""
    if not view.has("request_id_extension"):
        return RequestIdOptions()
    uuid = view.get("request_id_extension").unpack("typed_config", UUID_REQUEST_ID)
    return RequestIdOptions(
        pack_trace_reason=uuid.wrapped("pack_trace_reason", True),
        use_for_sampling=uuid.wrapped("use_request_id_for_trace_sampling", True),
    )


def _percentage(view: View, field: str, denominator: int) -> Fraction:
    """A ``Percent``. Envoy rounds it down: to percents for clients, else to hundredths of a percent."""
    if not view.has(field):
        return ALL
    share = view.get(field).message.value / 100
    return Fraction(numerator=int(denominator * share), denominator=denominator)


def _fraction(view: View, field: str) -> Fraction:
    return decode_fraction(view.get(field)) if view.has(field) else ALL


def _custom_tags(view: View) -> tuple[CustomTag, ...]:
    return tuple(_custom_tag(tag) for tag in view.each("custom_tags"))


def _custom_tag(view: View) -> CustomTag:
    tag, kind = view.message.tag, view.which("type")
    source = view.get(kind)
    message = source.message
    if kind == "literal":
        return LiteralTag(tag=tag, value=message.value)
    if kind == "environment":
        return EnvironmentTag(tag=tag, variable=message.name, default=message.default_value)
    if kind == "request_header":
        return RequestHeaderTag(tag=tag, header=message.name.lower(), default=message.default_value)
    origin = source.get("kind").which("kind")
    if not origin:
        raise source.error("must be set", "kind")
    key = source.get("metadata_key")
    return MetadataTag(
        tag=tag,
        source=MetadataSource(origin),
        namespace=key.message.key,
        path=tuple(segment.message.key for segment in key.each("path")),
        default=message.default_value,
    )
