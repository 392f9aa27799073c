"""Where resources come from: the server knows the wire, the builders know the mesh."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from google.protobuf.message import Message

from controlplane.model.proxy import Proxy
from controlplane.model.snapshot import MeshSnapshot


class Generator(Protocol):
    """Pure. What did not change, or is the same for another proxy, should be the same message object."""

    def build(
        self, type_url: str, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None
    ) -> Mapping[str, Message]:
        """The resources by name. ``names`` None: all of the type that the proxy needs (listeners and clusters
        only). Names that do not exist are left out."""

    def endpoints_hostname(self, name: str) -> str:
        """The service whose endpoints the load assignment ``name`` holds."""
