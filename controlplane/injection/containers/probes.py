"""The probes and hooks of our own containers."""

from __future__ import annotations

from controlplane.injection.config import Probe
from controlplane.injection.context import TemplateContext
from controlplane.injection.names import READINESS_PORT
from controlplane.injection.pod import JsonObject

_DRAIN = ["python", "-m", "sidecar.drain"]
_WAIT = ["python", "-m", "sidecar.wait"]
_READY = "/healthz/ready"
_TIMEOUT_S = 3


def probes(context: TemplateContext) -> JsonObject:
    """The proxy is started and ready as soon as it has its configuration. Without a status port, it has no
    probes, as in Istio."""
    if context.settings.metrics_port == 0:
        return {}
    return {
        "startupProbe": _probe(_READY, context.values.proxy.startup_probe),
        "readinessProbe": _probe(_READY, context.settings.readiness),
    }


def started(context: TemplateContext, path: str) -> JsonObject:
    """The startup probe of the agent, which passes before that of the proxy."""
    if context.settings.metrics_port == 0:
        return {}
    return {"startupProbe": _probe(path, context.values.proxy.startup_probe)}


def lifecycle(context: TemplateContext) -> JsonObject:
    """A native sidecar gets SIGTERM after the applications have ended, which is too late to drain. An
    ordinary container that the applications wait for blocks their start by its hook."""
    if context.values.proxy.lifecycle is not None:
        return {"lifecycle": context.values.proxy.lifecycle}
    if context.settings.native:
        command = [*_DRAIN, f"--admin-port={context.settings.admin_port}"]
        return {"lifecycle": {"preStop": {"exec": {"command": command}}}}
    if context.settings.hold_application:
        return {"lifecycle": {"postStart": {"exec": {"command": _WAIT}}}}
    return {}


def _probe(path: str, numbers: Probe) -> JsonObject:
    return {
        "httpGet": {"path": path, "port": READINESS_PORT},
        "initialDelaySeconds": numbers.initial_delay_seconds,
        "periodSeconds": numbers.period_seconds,
        "timeoutSeconds": _TIMEOUT_S,
        "failureThreshold": numbers.failure_threshold,
    }
