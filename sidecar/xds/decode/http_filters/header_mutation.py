"""``envoy.extensions.filters.http.header_mutation.v3``: the filter that changes headers."""

from __future__ import annotations

from sidecar.config.http_filters import HeaderMutation, HeaderMutationConfig, Mutations, RemoveHeader
from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder, RouteConfigDecoder
from sidecar.xds.decode.support import support
from sidecar.xds.decode.values import decode_header_name, decode_header_value
from sidecar.xds.decode.view import View

_FILTER = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
_ROUTE = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"


def _decode(view: View) -> HeaderMutationConfig:
    return HeaderMutationConfig(
        mutations=_mutations(view.get("mutations")),
        most_specific_header_mutations_wins=view.message.most_specific_header_mutations_wins,
    )


def _mutations(view: View) -> Mutations:
    return Mutations(
        request=_in_order(view, "request_mutations"), response=_in_order(view, "response_mutations")
    )


def _in_order(view: View, field: str) -> tuple[HeaderMutation, ...]:
    decoded = (_mutation(mutation) for mutation in view.each(field))
    return tuple(mutation for mutation in decoded if mutation is not None)


def _mutation(view: View) -> HeaderMutation | None:
    """None for a header that is never added: see `decode_header_value`."""
    if view.which("action") == "remove":
        return RemoveHeader(name=decode_header_name(view, "remove", view.message.remove))
    return decode_header_value(view.get("append"))


DECODER = HttpFilterDecoder(
    type_name=_FILTER,
    table={
        _FILTER: support("mutations most_specific_header_mutations_wins"),
        _ROUTE: support("mutations"),
        "envoy.extensions.filters.http.header_mutation.v3.Mutations": support(
            "request_mutations response_mutations"
        ),
        "envoy.config.common.mutation_rules.v3.HeaderMutation": support("remove append"),
    },
    decode=_decode,
    route=RouteConfigDecoder(type_name=_ROUTE, decode=lambda view: _mutations(view.get("mutations"))),
)
