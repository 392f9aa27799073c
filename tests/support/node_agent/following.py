"""Follows a collection of the Kubernetes API."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import ClientError

from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource

_LOG = logging.getLogger(__name__)

Key = tuple[str, str]  # namespace (empty for a cluster-wide kind) and name
Collection = Mapping[Key, Resource]

RETRY_AFTER_S = 0.2


async def follow(api: KubernetesApi, path: str) -> AsyncGenerator[Collection, None]:
    """Yields the whole collection, now and after each change. While the API server is away it yields nothing.
    After the end of a watch, or its answer 410 (Gone), it lists the collection again."""
    while True:
        try:
            listed = await api.get(path)
            found = {key(resource): resource for resource in listed["items"]}
            yield found
            async with aclosing(api.watch(path, listed["metadata"]["resourceVersion"])) as events:
                async for event in events:
                    if event["type"] == "ERROR":
                        break
                    found = changed(found, event)
                    yield found
        except (
            KubernetesError,
            ClientError,
            TimeoutError,
            json.JSONDecodeError,
            UnicodeDecodeError,
        ) as error:
            _LOG.info("following %s: %s", path, error)
        await asyncio.sleep(RETRY_AFTER_S)


def changed(found: Collection, event: Resource) -> dict[Key, Resource]:
    resource = event["object"]
    rest = {at: other for at, other in found.items() if at != key(resource)}
    return rest if event["type"] == "DELETED" else {**rest, key(resource): resource}


def key(resource: Resource) -> Key:
    return resource["metadata"].get("namespace", ""), resource["metadata"]["name"]
