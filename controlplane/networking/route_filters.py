"""The HTTP filters that routes configure: the filters of a chain, and their configurations for a route."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from envoy.config.core.v3.base_pb2 import RuntimeFractionalPercent
from envoy.config.route.v3.route_components_pb2 import Route
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3.fault_pb2 import FaultAbort, HTTPFault
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.v3.percent_pb2 import FractionalPercent

from controlplane.networking.messages import extension, packed
from controlplane.resources.base import StringMatch
from controlplane.resources.cors_policy import CorsPolicy, UnmatchedPreflights
from controlplane.resources.fault_injection import (
    GRPC_STATUSES,
    Abort,
    Delay,
    HTTPFaultInjection,
    Percent,
)

_FAULT: Final = "envoy.filters.http.fault"
_CORS: Final = "envoy.filters.http.cors"
_ALL: Final = FractionalPercent(numerator=100)

FAULT_FILTER: Final = extension(_FAULT, HTTPFault())
CORS_FILTER: Final = extension(_CORS, cors_pb2.Cors())


def configure_filters(route: Route, fault: HTTPFaultInjection | None, cors: CorsPolicy | None) -> None:
    if fault is not None:
        route.typed_per_filter_config[_FAULT].CopyFrom(packed(_fault(fault)))
    if cors is not None:
        route.typed_per_filter_config[_CORS].CopyFrom(packed(_cors(cors)))


def keep_faults(source: Route, target: Route) -> None:
    """Copies the configuration that gRPC's client reads too (gRFC A33)."""
    if _FAULT in source.typed_per_filter_config:
        target.typed_per_filter_config[_FAULT].CopyFrom(source.typed_per_filter_config[_FAULT])


def _cors(policy: CorsPolicy) -> cors_pb2.CorsPolicy:
    message = cors_pb2.CorsPolicy(
        allow_origin_string_match=[_origin(match) for match in policy.origins],
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(policy.expose_headers),
        filter_enabled=RuntimeFractionalPercent(default_value=_ALL),
        forward_not_matching_preflights={
            "value": policy.unmatched_preflights is not UnmatchedPreflights.IGNORE
        },
    )
    if policy.max_age is not None:
        message.max_age = str(policy.max_age // timedelta(seconds=1))
    if policy.allow_credentials is not None:
        message.allow_credentials.value = policy.allow_credentials
    return message


def _origin(match: StringMatch) -> StringMatcher:
    if match.exact is not None:
        return StringMatcher(exact=match.exact)
    if match.prefix is not None:
        return StringMatcher(prefix=match.prefix)
    return StringMatcher(safe_regex={"regex": match.regex})


def _fault(fault: HTTPFaultInjection) -> HTTPFault:
    message = HTTPFault()
    if fault.delay is not None:
        message.delay.fixed_delay.FromTimedelta(fault.delay.fixed_delay)
        message.delay.percentage.CopyFrom(_share_of_delays(fault.delay))
    if fault.abort is not None:
        message.abort.CopyFrom(_abort(fault.abort))
    return message


def _share_of_delays(delay: Delay) -> FractionalPercent:
    if delay.percentage is None:
        return FractionalPercent(numerator=delay.percent or 0)
    return _share(delay.percentage)


def _abort(abort: Abort) -> FaultAbort:
    status: dict[str, Any] = {"http_status": abort.http_status}
    if abort.grpc_status is not None:
        status = {"grpc_status": GRPC_STATUSES.index(abort.grpc_status)}
    message = FaultAbort(**status)
    if abort.percentage is not None:
        message.percentage.CopyFrom(_share(abort.percentage))
    return message


def _share(percent: Percent) -> FractionalPercent:
    """Istio's precision: parts per million."""
    return FractionalPercent(numerator=round(percent.value * 10_000), denominator=FractionalPercent.MILLION)
