"""``OutlierDetection``. Defaults are Envoy's."""

from __future__ import annotations

from typing import Final

from sidecar.config.cluster import OutlierDetection
from sidecar.xds.decode.support import NO_HEALTH_CHECKS, SupportTable, support
from sidecar.xds.decode.view import View

# Ejections by statistics over a cluster's hosts: only 0 is accepted.
_STATISTICAL_EJECTIONS = (
    "enforcing_success_rate",
    "enforcing_local_origin_success_rate",
    "enforcing_failure_percentage",
    "enforcing_failure_percentage_local_origin",
)
_NOT_ENFORCED = "has an effect only if it is enforced, which is refused"

TABLE: Final[SupportTable] = {
    "envoy.config.cluster.v3.OutlierDetection": support(
        "consecutive_5xx interval base_ejection_time max_ejection_percent enforcing_consecutive_5xx "
        "enforcing_success_rate consecutive_gateway_failure enforcing_consecutive_gateway_failure "
        "split_external_local_origin_errors consecutive_local_origin_failure "
        "enforcing_consecutive_local_origin_failure enforcing_local_origin_success_rate "
        "enforcing_failure_percentage enforcing_failure_percentage_local_origin max_ejection_time "
        "always_eject_one_host",
        success_rate_minimum_hosts=_NOT_ENFORCED,
        success_rate_request_volume=_NOT_ENFORCED,
        success_rate_stdev_factor=_NOT_ENFORCED,
        failure_percentage_threshold=_NOT_ENFORCED,
        failure_percentage_minimum_hosts=_NOT_ENFORCED,
        failure_percentage_request_volume=_NOT_ENFORCED,
        successful_active_health_check_uneject_host=NO_HEALTH_CHECKS,
    ),
}


def decode_outlier_detection(view: View | None) -> OutlierDetection | None:
    if view is None:
        return None
    for field in _STATISTICAL_EJECTIONS:
        if view.wrapped(field, 0):
            raise view.error("statistical ejection is not supported; use 0", field)
    base_s = view.duration_s("base_ejection_time", 30.0)
    max_s = view.duration_s("max_ejection_time", max(300.0, base_s))
    if max_s < base_s:
        raise view.error(f"must not be less than base_ejection_time, {base_s:g} s", "max_ejection_time")
    return OutlierDetection(
        consecutive_5xx=view.wrapped("consecutive_5xx", 5),
        enforcing_consecutive_5xx=view.wrapped("enforcing_consecutive_5xx", 100),
        consecutive_gateway_failure=view.wrapped("consecutive_gateway_failure", 5),
        enforcing_consecutive_gateway_failure=view.wrapped("enforcing_consecutive_gateway_failure", 0),
        split_external_local_origin_errors=view.message.split_external_local_origin_errors,
        consecutive_local_origin_failure=view.wrapped("consecutive_local_origin_failure", 5),
        enforcing_consecutive_local_origin_failure=view.wrapped(
            "enforcing_consecutive_local_origin_failure", 100
        ),
        interval_s=view.duration_s("interval", 10.0),
        base_ejection_time_s=base_s,
        max_ejection_time_s=max_s,
        max_ejection_percent=view.wrapped("max_ejection_percent", 10),
        always_eject_one_host=view.wrapped("always_eject_one_host", False),
    )
