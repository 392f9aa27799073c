"""The names that the DNS resolver of the sidecar answers. Source: ``istio.networking.nds.v1.NameTable``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KUBERNETES = "Kubernetes"


@dataclass(frozen=True, slots=True, kw_only=True)
class NameInfo:
    """IP addresses by version, as text. ``registry`` is the origin of the host. ``shortname`` and
    ``namespace`` are set for `KUBERNETES` only."""

    v4: tuple[str, ...] = ()
    v6: tuple[str, ...] = ()
    registry: str = ""
    shortname: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTable:
    """``hosts`` by name: in lower case, without the last dot. ``*.example.com`` is every name below it."""

    hosts: Mapping[str, NameInfo] = field(default_factory=dict)
