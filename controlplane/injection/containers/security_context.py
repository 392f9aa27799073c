"""The security contexts of our containers. All of them are explicit, so that the pod's own security context
has no effect on them. All but that of the init container pass the Pod Security Standard `restricted`, unless
a pod asks for a capability.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.injection.context import TemplateContext
from controlplane.injection.names import PROXY_ID
from controlplane.injection.pod import JsonObject
from controlplane.model.proxy import InterceptionMode


def proxy(context: TemplateContext) -> JsonObject:
    capabilities = _capabilities(context)
    return _context(
        user=0 if capabilities else PROXY_ID,
        group=PROXY_ID,
        capabilities=capabilities,
        privileged=context.values.proxy.privileged,
    )


def agent(context: TemplateContext) -> JsonObject:
    """The user of the Envoy, which reads the agent's files: root without capabilities cannot read those of
    others."""
    return _context(user=0, group=PROXY_ID) if _capabilities(context) else validation(context)


def validation(context: TemplateContext) -> JsonObject:
    """The user of the proxy: the rules of a network plug-in exempt it."""
    user, group = context.overrides.run_as_user, context.overrides.run_as_group
    return _context(user=user or PROXY_ID, group=PROXY_ID if group is None else group)


def _capabilities(context: TemplateContext) -> list[str]:
    """A transparent proxy needs NET_ADMIN, and the kernel grants capabilities to root only. Its group then
    tells its own traffic from the application's."""
    capabilities = []
    if context.settings.interception is InterceptionMode.TPROXY:
        capabilities.append("NET_ADMIN")
    if context.settings.bind_low_ports:
        capabilities.append("NET_BIND_SERVICE")
    return capabilities


def init(context: TemplateContext) -> JsonObject:
    """iptables needs root, NET_ADMIN and NET_RAW, and writes a lock file."""
    changes = _context(
        user=0,
        group=0,
        capabilities=("NET_ADMIN", "NET_RAW"),
        privileged=context.values.proxy.privileged,
    )
    return changes | {"readOnlyRootFilesystem": False}


def _context(
    *, user: int, group: int, capabilities: Sequence[str] = (), privileged: bool = False
) -> JsonObject:
    allowed: JsonObject = {"drop": ["ALL"]}
    if capabilities:
        allowed["add"] = list(capabilities)
    return {
        # The API server requires it of a privileged container.
        "allowPrivilegeEscalation": privileged,
        "capabilities": allowed,
        "privileged": privileged,
        "readOnlyRootFilesystem": True,
        "runAsUser": user,
        "runAsGroup": group,
        "runAsNonRoot": user != 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
