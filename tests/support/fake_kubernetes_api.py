"""An API server in memory for decisions about single objects: its objects, its requests, its errors.

It keeps objects by their path, and has no watch cache, no versions to go back to and no access control: what
depends on those is tested on a real one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from controlplane.errors import KubernetesError, RefusedError
from controlplane.kubernetes.api import Document

_NO_QUERY: Mapping[str, str] = {}
_ALL_OF_A_KIND = re.compile(r"/(api|apis/[^/]+)/[^/]+/[^/]+")
_ALL_OF_A_NAMESPACE = re.compile(r"/api/v1/namespaces/[^/]+/[^/]+")


class FakeKubernetesApi:
    """``failures`` are raised in turn, one by each request but watches. ``writes`` has every write that was
    done: ``POST <path>``."""

    def __init__(self, objects: Mapping[str, Document] | None = None) -> None:
        self.objects: dict[str, Document] = {}
        self.failures: list[KubernetesError] = []
        self.writes: list[str] = []
        self.asked = 0
        self._version = 0
        self._changed = asyncio.Condition()
        self._events: list[tuple[str, Document]] = []
        for path, document in (objects or {}).items():
            self._put(path, document)

    async def get(self, path: str, query: Mapping[str, str] = _NO_QUERY) -> Document:
        """An object, or all of a kind: ``/api/v1/configmaps``, ``/apis/apps/v1/deployments``; or a
        namespace's: ``/api/v1/namespaces/default/configmaps``."""
        self._fail()
        if path in self.objects:
            return self.objects[path]
        if _ALL_OF_A_NAMESPACE.fullmatch(path):
            items = [each for at, each in self.objects.items() if at.startswith(f"{path}/")]
        elif _ALL_OF_A_KIND.fullmatch(path):
            items = [each for at, each in self.objects.items() if _plural(at) == _plural(f"{path}/")]
        else:
            raise RefusedError(404, f"{path} not found")
        return {"metadata": {"resourceVersion": str(self._version)}, "items": items}

    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[Document, None]:
        sent = int(query["resourceVersion"])
        while True:
            for at, event in self._events:
                version = int(event["object"]["metadata"]["resourceVersion"])
                if version > sent and _plural(at) == _plural(f"{path}/"):
                    sent = version
                    yield event
            async with self._changed:
                await self._changed.wait()

    async def create(self, path: str, document: Document) -> Document:
        self._fail()
        at = f"{path}/{document['metadata']['name']}"
        if at in self.objects:
            raise RefusedError(409, f"{at} already exists")
        self.writes.append(f"POST {path}")
        return await self.put(at, document)

    async def replace(self, path: str, document: Document) -> Document:
        self._fail()
        self.writes.append(f"PUT {path}")
        return await self.put(path, document)

    async def merge(self, path: str, document: Document) -> Document:
        self._fail()
        if path not in self.objects:
            raise RefusedError(404, f"{path} not found")
        self.writes.append(f"PATCH {path}")
        return await self.put(path, _merged(self.objects[path], document))

    async def json_patch(self, path: str, operations: Sequence[Document]) -> Document:
        """RFC 6902, of which it knows ``add`` and ``test``."""
        self._fail()
        if path not in self.objects:
            raise RefusedError(404, f"{path} not found")
        patched = deepcopy(self.objects[path])
        for operation in operations:
            *parents, name = operation["path"].split("/")[1:]
            target = patched
            for each in parents:
                target = target[int(each) if each.isdecimal() else each]
            if operation["op"] == "add":
                target[name] = operation["value"]
            elif target.get(name) != operation["value"]:
                raise RefusedError(422, f"test of {operation['path']} failed")
        self.writes.append(f"PATCH {path}")
        return await self.put(path, patched)

    async def put(self, path: str, document: Document) -> Document:
        """Writes an object like another client: watches report it."""
        kept = self._put(path, document)
        async with self._changed:
            self._changed.notify_all()
        return kept

    async def remove(self, path: str) -> None:
        gone = self.objects.pop(path)
        self._version += 1
        metadata = {**gone["metadata"], "resourceVersion": str(self._version)}
        self._events.append((path, {"type": "DELETED", "object": {**gone, "metadata": metadata}}))
        async with self._changed:
            self._changed.notify_all()

    def _put(self, path: str, document: Document) -> Document:
        self._version += 1
        metadata = {**document["metadata"], "resourceVersion": str(self._version)}
        match path.split("/"):
            case ["", "api", "v1", "namespaces", namespace, _, _]:
                metadata["namespace"] = namespace
        kept = {**document, "metadata": metadata}
        happened = "MODIFIED" if path in self.objects else "ADDED"
        self.objects[path] = kept
        self._events.append((path, {"type": happened, "object": kept}))
        return kept

    def _fail(self) -> None:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)


def _plural(path: str) -> str:
    """The kind of an object's path."""
    return path.split("/")[-2]


def _merged(old: Any, new: Any) -> Any:
    """RFC 7386."""
    if not isinstance(new, dict):
        return new
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged
