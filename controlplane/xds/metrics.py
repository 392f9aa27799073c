"""The metrics of the xDS server. Their names are istiod's."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from protos import type_urls

# Istio pilot's buckets for the same metrics.
_SECONDS: Final = (0.01, 0.1, 0.5, 1, 3, 5, 10, 20, 30)


class XdsMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.connected: Final = Gauge(
            "pilot_xds",
            "Connected proxies, by the version that they report.",
            ["version"],
            registry=registry,
        )
        self.pushes: Final = Counter("pilot_xds_pushes", "Responses sent.", ["type"], registry=registry)
        self.push_triggers: Final = Counter(
            "pilot_push_triggers", "Changes that led to a push.", ["type"], registry=registry
        )
        self.push_time: Final = Histogram(
            "pilot_xds_push_time",
            "Seconds to build and queue the responses of one type for one proxy.",
            ["type"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_time: Final = Histogram(
            "pilot_proxy_queue_time",
            "Seconds that a proxy waited in the push queue.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.convergence_time: Final = Histogram(
            "pilot_proxy_convergence_time",
            "Seconds from a change until all of its responses were written to a proxy.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.total_rejects: Final = Counter(
            "pilot_total_xds_rejects", "Responses that a proxy rejected.", ["type"], registry=registry
        )
        self.rejecting: Final = {
            type_url: Gauge(
                f"pilot_xds_{short}_reject", f"Streams that reject their {short.upper()}.", registry=registry
            )
            for type_url, short in type_urls.SHORT_NAMES.items()
        }
        self.write_timeouts: Final = Counter(
            "pilot_xds_write_timeout",
            "Responses that a proxy did not read within the timeout.",
            registry=registry,
        )
        self.internal_errors: Final = Counter(
            "pilot_total_xds_internal_errors",
            "Pushes that failed because of an internal error.",
            registry=registry,
        )
        self.services: Final = Gauge("pilot_services", "Services known.", registry=registry)
        self.virtual_services: Final = Gauge(
            "pilot_virt_services", "Virtual services known.", registry=registry
        )
