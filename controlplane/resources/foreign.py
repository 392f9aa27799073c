"""Kinds of Istio's API groups and of the Gateway API that are not supported, and the consequence for their
authors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_ISTIO: Final = "istio.io"
_GATEWAY_API: Final = "gateway.networking.k8s.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKind:
    """A kind by its API group (``security.istio.io``) and name. The group is empty if the document does not
    state it."""

    group: str
    name: str

    @property
    def consequence(self) -> str:
        """The consequence of the missing support."""
        return _CONSEQUENCES.get(self, "it has no effect")

    @property
    def may_restrict(self) -> bool:
        """Whether traffic passes that the author may intend to block. The status of the resource must say
        so."""
        return self in _CONSEQUENCES

    def __str__(self) -> str:
        return f"{self.name} ({self.group})" if self.group else self.name


AUTHORIZATION_POLICY: Final = ForeignKind(group="security.istio.io", name="AuthorizationPolicy")
REQUEST_AUTHENTICATION: Final = ForeignKind(group="security.istio.io", name="RequestAuthentication")

_CONSEQUENCES: Final[Mapping[ForeignKind, str]] = {
    AUTHORIZATION_POLICY: "it has no effect, and no request is denied",
    REQUEST_AUTHENTICATION: "no token is checked, and requests pass with any token or none",
}

# The unsupported kinds of Istio 1.29. Older and newer releases may have others.
FOREIGN_KINDS: Final[Mapping[str, ForeignKind]] = {
    kind.name: kind
    for kind in (
        AUTHORIZATION_POLICY,
        REQUEST_AUTHENTICATION,
        ForeignKind(group="networking.istio.io", name="EnvoyFilter"),
        ForeignKind(group="networking.istio.io", name="Gateway"),
        ForeignKind(group="networking.istio.io", name="ProxyConfig"),
        ForeignKind(group="networking.istio.io", name="WorkloadGroup"),
        ForeignKind(group="telemetry.istio.io", name="Telemetry"),
        ForeignKind(group="extensions.istio.io", name="WasmPlugin"),
    )
}


def is_istios(group: str) -> bool:
    """Whether an API group belongs to Istio, such as ``security.istio.io``."""
    return group == _ISTIO or group.endswith(f".{_ISTIO}")


def foreign_kind(name: str, api_version: object) -> ForeignKind | None:
    """Returns the unsupported kind of Istio or of the Gateway API that a document has, or None for any other
    kind. A document without an API version may belong to Istio."""
    group = api_version.partition("/")[0] if isinstance(api_version, str) else ""
    if (not group or is_istios(group)) and name in FOREIGN_KINDS:
        return FOREIGN_KINDS[name]
    return ForeignKind(group=group, name=name) if is_istios(group) or group == _GATEWAY_API else None
