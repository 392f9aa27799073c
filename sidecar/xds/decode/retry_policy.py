"""``RetryPolicy`` of a route or a virtual host."""

from __future__ import annotations

from typing import Final

from sidecar.config.route import RetryPolicy
from sidecar.grpc_status import RETRY_CONDITIONS
from sidecar.xds.decode.matchers import decode_header_match
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.view import View

_RETRY_ON = frozenset(
    (
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "http3-post-connect-failure",
        *RETRY_CONDITIONS,
    )
)
_PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"

TABLE: Final[SupportTable] = {
    "envoy.config.route.v3.RetryPolicy": support(
        "retry_on num_retries per_try_timeout retry_host_predicate host_selection_retry_max_attempts "
        "retriable_status_codes retriable_headers retry_back_off",
    ),
    "envoy.config.route.v3.RetryPolicy.RetryBackOff": support("base_interval max_interval"),
    "envoy.config.route.v3.RetryPolicy.RetryHostPredicate": support("name typed_config"),
    _PREVIOUS_HOSTS: support(),
}


def decode_retry_policy(view: View | None) -> RetryPolicy | None:
    if view is None:
        return None
    message = view.message
    base_s, max_s = _back_off(view)
    return RetryPolicy(
        retry_on=_retry_on(view),
        num_retries=view.wrapped("num_retries", 1),
        per_try_timeout_s=view.duration_s("per_try_timeout", 0.0),
        retriable_status_codes=frozenset(message.retriable_status_codes),
        retriable_headers=tuple(decode_header_match(header) for header in view.each("retriable_headers")),
        back_off_base_interval_s=base_s,
        back_off_max_interval_s=max_s,
        previous_hosts=_previous_hosts(view),
        host_selection_max_attempts=message.host_selection_retry_max_attempts or 1,
    )


def _retry_on(view: View) -> frozenset[str]:
    """Unknown names are refused, although Envoy ignores them, because they would have no effect. A status
    code in the list is Istio's short form, which its control plane resolves."""
    names = frozenset(name.strip() for name in view.message.retry_on.split(",") if name.strip())
    if unknown := names - _RETRY_ON:
        raise view.error(f"{', '.join(sorted(unknown))} is not supported", "retry_on")
    return names


def _back_off(view: View) -> tuple[float, float]:
    """``RetryBackOff``: base and maximum in seconds. Defaults: 25 ms, and ten times the base interval."""
    back_off = view.find("retry_back_off")
    if back_off is None:
        return 0.025, 0.25
    base_s = back_off.duration_s("base_interval", 0.025)
    max_s = back_off.duration_s("max_interval", 10 * base_s)
    if max_s < base_s:
        raise back_off.error("must not be less than base_interval", "max_interval")
    return base_s, max_s


def _previous_hosts(view: View) -> bool:
    for predicate in view.each("retry_host_predicate"):
        if predicate.has("typed_config"):
            predicate.unpack("typed_config", _PREVIOUS_HOSTS)
        elif predicate.message.name != "envoy.retry_host_predicates.previous_hosts":
            raise predicate.error(f"{predicate.message.name} is not supported", "name")
    return bool(view.message.retry_host_predicate)
