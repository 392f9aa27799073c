"""The container of our own sidecar."""

from __future__ import annotations

from typing import Final

from controlplane.injection import names
from controlplane.injection.containers import security_context
from controlplane.injection.containers.environment import environment
from controlplane.injection.containers.image import image
from controlplane.injection.containers.probes import lifecycle, probes
from controlplane.injection.containers.volumes import mounts
from controlplane.injection.context import TemplateContext
from controlplane.injection.pod import JsonObject
from controlplane.injection.resources import workers

DEFAULT_WORKERS: Final = 2


def sidecar(context: TemplateContext, *, proxy_type: str) -> JsonObject:
    settings = context.settings
    return {
        "name": names.PROXY,
        **image(context.values, settings.image, settings.image_type),
        "args": [
            *ca_arguments(context),
            f"--cache-dir={names.STATE_FOLDER}",
            f"--concurrency={_concurrency(context)}",
            f"--drain-time-s={settings.drain_time_s}",
            f"--log-level={settings.log_level}",
            f"--metrics-port={settings.metrics_port or 'off'}",
        ],
        "env": environment(context, proxy_type=proxy_type),
        "ports": metrics_ports(context),
        **probes(context),
        **lifecycle(context),
        **({"resources": settings.resources} if settings.resources else {}),
        "securityContext": security_context.proxy(context),
        "volumeMounts": [*mounts(), *settings.user_volume_mounts],
    }


def _concurrency(context: TemplateContext) -> int:
    """0 lets the sidecar use as many cores as its CPU quota allows."""
    asked = context.settings.proxy_config.concurrency
    return workers(context.settings.resources, DEFAULT_WORKERS) if asked is None else asked


def ca_arguments(context: TemplateContext) -> list[str]:
    """The flags for the workload's certificate, which the sidecar and the agent of an Envoy share."""
    return [
        f"--ca-address={context.control_plane_address}",
        f"--ca-cert={names.ROOTS_FILE}",
        f"--token-file={names.TOKEN_FILE}",
        f"--trust-domain={context.request.mesh_config.trust_domain}",
    ]


def metrics_ports(context: TemplateContext) -> list[JsonObject]:
    port = context.settings.metrics_port
    return [{"containerPort": port, "name": "outrigger-prom", "protocol": "TCP"}] if port else []
