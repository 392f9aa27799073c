"""Reads what pods refer to, and keeps asking while the API server is away."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import ClientError

from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource

ASK_AGAIN_AFTER_S = 0.5
UNREACHABLE = (ClientError, TimeoutError, ConnectionError)

Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


class MissingError(Exception):
    """A ConfigMap or Secret, or a key of it, that is not there and is not optional."""


async def patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Asks until the API server answers for itself: it may be away, or (429, 5xx) not ready yet.

    Raises KubernetesError for any other refusal.
    """
    while True:
        try:
            return await ask()
        except KubernetesError as error:
            if not (error.status == 429 or error.status >= 500):
                raise
            log.info("the API server is not ready: %s", error)
        except UNREACHABLE as error:
            log.info("the API server is away: %r", error)
        await asyncio.sleep(ASK_AGAIN_AFTER_S)


class PodObjects:
    """The ConfigMaps and Secrets of one namespace, as files' or variables' contents by key."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}"

    async def config_map(self, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """Raises MissingError, and KubernetesError."""
        found = await self._read("configmaps", name, optional)
        text = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        return text | {key: b64decode(value) for key, value in (found.get("binaryData") or {}).items()}

    async def secret(self, name: str, *, optional: bool = False) -> dict[str, bytes]:
        """Raises MissingError, and KubernetesError."""
        found = await self._read("secrets", name, optional)
        return {key: b64decode(value) for key, value in (found.get("data") or {}).items()}

    async def _read(self, kind: str, name: str, optional: bool) -> Resource:
        try:
            return await patiently(lambda: self._api.get(f"{self._path}/{kind}/{name}"))
        except KubernetesError as error:
            if error.status != 404:
                raise
            if optional:
                return {}
            raise MissingError(f"{kind.removesuffix('s')} {name!r} not found") from None
