"""The metrics of the webhooks, with the names of istiod."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram


class InjectionMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests: Final = Counter(
            "sidecar_injection_requests", "Requests for the injection of a pod.", registry=registry
        )
        self.successes: Final = Counter(
            "sidecar_injection_success", "Pods that got a sidecar.", registry=registry
        )
        self.failures: Final = Counter(
            "sidecar_injection_failure",
            "Pods that were refused, and requests that were not understood.",
            registry=registry,
        )
        self.skips: Final = Counter(
            "sidecar_injection_skip", "Pods that were admitted without a sidecar.", registry=registry
        )
        self.time_s: Final = Histogram(
            "sidecar_injection_time_seconds", "The time of an injection.", registry=registry
        )


class ValidationMetrics:
    """``passed`` and ``failed`` count by the resource as the API server named it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        names = ["group", "version", "resource"]
        self.passed: Final = Counter(
            "galley_validation_passed", "Resources that were admitted.", names, registry=registry
        )
        self.failed: Final = Counter(
            "galley_validation_failed",
            "Resources that were refused.",
            [*names, "reason"],
            registry=registry,
        )
        self.errors: Final = Counter(
            "galley_validation_http_error",
            "Requests that were not understood, by HTTP status.",
            ["status"],
            registry=registry,
        )


class PatchMetrics:
    """``name`` is that of a webhook configuration."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts: Final = Counter(
            "webhook_patch_attempts", "Patches of a caBundle.", ["name"], registry=registry
        )
        self.failures: Final = Counter(
            "webhook_patch_failures",
            "Failed patches of a caBundle; they are tried again.",
            ["name"],
            registry=registry,
        )
