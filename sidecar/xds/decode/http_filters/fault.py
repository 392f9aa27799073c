"""``envoy.extensions.filters.http.fault.v3.HTTPFault``: the filter that delays and aborts requests."""

from __future__ import annotations

from sidecar.config.http_filters import FaultAbort, FaultConfig, FaultDelay, FaultRateLimit
from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder, RouteConfigDecoder
from sidecar.xds.decode.matchers import decode_header_match
from sidecar.xds.decode.support import NO_READER, support
from sidecar.xds.decode.values import decode_fraction
from sidecar.xds.decode.view import View

_FAULT = "envoy.extensions.filters.http.fault.v3.HTTPFault"
_ABORT = "envoy.extensions.filters.http.fault.v3.FaultAbort"
_COMMON = "envoy.extensions.filters.common.fault.v3"


def _decode(view: View) -> FaultConfig:
    message = view.message
    delay, abort = view.find("delay"), view.find("abort")
    rate_limit = view.find("response_rate_limit")
    return FaultConfig(
        delay=_delay(delay) if delay else None,
        abort=_abort(abort) if abort else None,
        response_rate_limit=_rate_limit(rate_limit) if rate_limit else None,
        upstream_cluster=message.upstream_cluster,
        downstream_nodes=frozenset(node.encode() for node in message.downstream_nodes),
        headers=tuple(decode_header_match(header) for header in view.each("headers")),
        max_active_faults=view.wrapped("max_active_faults", None),
    )


def _delay(view: View) -> FaultDelay:
    fixed = view.which("fault_delay_secifier") == "fixed_delay"  # the name is misspelled in Envoy's API
    return FaultDelay(
        fixed_s=view.duration_s("fixed_delay", 0.0) if fixed else None,
        percentage=decode_fraction(view.get("percentage")),
    )


def _abort(view: View) -> FaultAbort:
    kind = view.which("error_type")
    return FaultAbort(
        http_status=view.message.http_status if kind == "http_status" else None,
        grpc_status=view.message.grpc_status if kind == "grpc_status" else None,
        percentage=decode_fraction(view.get("percentage")),
    )


def _rate_limit(view: View) -> FaultRateLimit:
    fixed = view.which("limit_type") == "fixed_limit"
    return FaultRateLimit(
        fixed_kib_per_s=view.get("fixed_limit").message.limit_kbps if fixed else None,
        percentage=decode_fraction(view.get("percentage")),
    )


DECODER = HttpFilterDecoder(
    type_name=_FAULT,
    table={
        # The runtime keys, such as `delay_percent_runtime`, are refused: nothing could set them.
        _FAULT: support(
            "delay abort response_rate_limit upstream_cluster downstream_nodes headers max_active_faults",
            disable_downstream_cluster_stats="there are no statistics by the client's cluster",
            filter_metadata=NO_READER,
        ),
        _ABORT: support("http_status grpc_status header_abort percentage"),
        f"{_ABORT}.HeaderAbort": support(),
        f"{_COMMON}.FaultDelay": support("fixed_delay header_delay percentage"),
        f"{_COMMON}.FaultDelay.HeaderDelay": support(),
        f"{_COMMON}.FaultRateLimit": support("fixed_limit header_limit percentage"),
        f"{_COMMON}.FaultRateLimit.FixedLimit": support("limit_kbps"),
        f"{_COMMON}.FaultRateLimit.HeaderLimit": support(),
    },
    decode=_decode,
    route=RouteConfigDecoder(type_name=_FAULT, decode=_decode),
)
