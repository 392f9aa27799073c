"""Bookinfo as a user of a mesh sees it, be its control plane's source a folder or a cluster."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from outrigger.demo.observe import Hop
from tests.support.kubernetes_api import Resource
from tests.support.manifests import DEPLOY, manifests


class Bookinfo(Protocol):
    """A mesh with all of Bookinfo in it, ready."""

    @property
    def url(self) -> str:
        """productpage's, for a client outside the mesh."""
        ...

    @property
    def outage_s(self) -> float:
        """How long an outage of the source is to last."""
        ...

    async def apply(self, *documents: Resource) -> None:
        """Creates them, or changes them."""
        ...

    async def scale_reviews_v1(self, replicas: int) -> None:
        """Returns when the new ones can serve, and the old ones have ended."""
        ...

    async def complaint(self, kind: str, name: str) -> str:
        """Why a resource is not in force as it was last looked at; empty when it is."""
        ...

    async def hops(self, service: str) -> Counter[Hop]:
        """The requests that a service's sidecars have taken in, by who proved to have sent them."""
        ...

    def source_away(self) -> AbstractAsyncContextManager[None]:
        """While the block runs, the source of the resources is unreachable."""
        ...

    async def crash_control_plane(self) -> None:
        """SIGKILL, and a new one is started; whether it can serve yet is another matter."""
        ...

    async def everyone_follows(self) -> None:
        """Returns when the control plane serves every sidecar."""
        ...


def example(name: str) -> list[Resource]:
    """The documents of one of the example's files."""
    return manifests(DEPLOY / "examples" / "bookinfo" / f"{name}.yaml")
