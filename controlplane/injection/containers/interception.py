"""The init container that sets the interception rules of a pod, or validates those of a network plug-in."""

from __future__ import annotations

from controlplane.injection import names
from controlplane.injection.containers import security_context
from controlplane.injection.containers.image import image
from controlplane.injection.context import TemplateContext
from controlplane.injection.pod import JsonObject
from controlplane.injection.resources import without_nulls
from controlplane.model.proxy import InterceptionMode

_PROGRAM = ["python", "-m", "sidecar.intercept"]


def interception(context: TemplateContext) -> list[JsonObject]:
    """Returns no container for a pod without interception."""
    if context.settings.interception is InterceptionMode.NONE:
        return []
    return [_validation(context) if context.values.init.cni else _init(context)]


def _init(context: TemplateContext) -> JsonObject:
    return _container(context, names.INIT) | {
        "args": _rules(context),
        "securityContext": security_context.init(context),
    }


def _validation(context: TemplateContext) -> JsonObject:
    return _container(context, names.VALIDATION) | {
        "args": [*_rules(context), "--validate"],
        "securityContext": security_context.validation(context),
    }


def _container(context: TemplateContext, name: str) -> JsonObject:
    resources = without_nulls(context.values.init.resources or {})
    return {
        "name": name,
        **image(context.values, context.values.init.image, context.settings.image_type),
        "command": _PROGRAM,
        **({"resources": resources} if resources else {}),
    }


def _rules(context: TemplateContext) -> list[str]:
    """The flags of the rules. The proxy's own traffic is recognized by its user; a proxy that runs as root is
    recognized by its group, because the rules must not exempt root."""
    settings, mesh, traffic = context.settings, context.request.mesh_config, context.settings.traffic
    group = context.overrides.run_as_group
    flags = {
        "outbound-port": mesh.outbound_port,
        "inbound-port": mesh.inbound_port,
        "proxy-uid": context.overrides.run_as_user or names.PROXY_ID,
        "proxy-gid": names.PROXY_ID if group is None else group,
        "mode": settings.interception.value,
        "inbound-ports": traffic.include_inbound_ports,
        "exclude-inbound-ports": settings.excluded_inbound_ports,
        "outbound-ranges": traffic.include_outbound_ranges,
        "exclude-outbound-ranges": traffic.exclude_outbound_ranges,
        "outbound-ports": traffic.include_outbound_ports,
        "exclude-outbound-ports": traffic.exclude_outbound_ports,
        "exclude-interfaces": traffic.exclude_interfaces,
        "reroute-virtual-interfaces": traffic.reroute_virtual_interfaces,
    }
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    if settings.capture_dns:
        arguments += ["--capture-dns", f"--dns-port={names.DNS_PORT}"]
    return arguments
