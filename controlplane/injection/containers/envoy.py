"""The containers of a stock Envoy as the data plane: Envoy, and the agent that gets its certificate and
serves its probes and metrics."""

from __future__ import annotations

from typing import Final

from controlplane.injection import names
from controlplane.injection.containers import security_context
from controlplane.injection.containers.environment import environment
from controlplane.injection.containers.image import image
from controlplane.injection.containers.probes import lifecycle, probes, started
from controlplane.injection.containers.sidecar import ca_arguments, metrics_ports
from controlplane.injection.containers.volumes import mounts
from controlplane.injection.context import TemplateContext
from controlplane.injection.pod import JsonObject

_IDENTITY_READY: Final = "/healthz/identity"


def envoy(context: TemplateContext, *, proxy_type: str) -> JsonObject:
    settings = context.settings
    concurrency = settings.proxy_config.concurrency
    return {
        "name": names.PROXY,
        **image(context.values, settings.image, settings.image_type),
        "args": [
            "--config-yaml",
            f"$({names.CONFIG_YAML})",
            "--drain-time-s",
            str(settings.drain_time_s),
            "--log-level",
            settings.log_level,
            "--concurrency",
            str(context.values.envoy.concurrency if concurrency is None else concurrency),
            "--disable-hot-restart",
        ],
        "env": environment(context, proxy_type=proxy_type),
        **probes(context),
        **({"resources": settings.resources} if settings.resources else {}),
        "securityContext": security_context.proxy(context),
        "volumeMounts": [*mounts(identity=True), *settings.user_volume_mounts],
    }


def agent(context: TemplateContext, *, proxy_type: str) -> JsonObject:
    """The agent starts before Envoy, which needs the certificate. It is not ready before Envoy is."""
    settings, values = context.settings, context.values
    return {
        "name": names.AGENT,
        **image(values, values.proxy.image),
        "command": ["python", "-m", "sidecar.agent"],
        "args": [
            *ca_arguments(context),
            f"--identity-dir={names.IDENTITY_FOLDER}",
            f"--drain-time-s={settings.drain_time_s}",
            f"--log-level={settings.agent_log_level}",
            f"--metrics-port={settings.metrics_port or 'off'}",
        ],
        "env": environment(context, proxy_type=proxy_type),
        "ports": metrics_ports(context),
        **started(context, _IDENTITY_READY),
        **lifecycle(context),
        **({"resources": values.proxy.resources} if values.proxy.resources else {}),
        "securityContext": security_context.agent(context),
        "volumeMounts": mounts(identity=True),
    }
