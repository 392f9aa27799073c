"""A pod's volumes: folders on the machine that its containers mount."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.atomic_folder import AtomicFolder, File
from tests.support.node_agent.downward import PodIdentity, amount
from tests.support.node_agent.objects import MissingError, PodObjects
from tests.support.node_agent.privileges import Ownership
from tests.support.node_agent.tmpfs import mount_tmpfs
from tests.support.node_agent.tokens import PodTokens

DEFAULT_MODE = 0o644
TOKEN_MODE_OF_OWNED = 0o600
GROUP_READS = 0o440
SHARED_FOLDER = 0o777
SET_GROUP = 0o2070  # new files in it have its group, whose members may write to it
DEFAULT_TOKEN_LIFETIME_S = 3600


class UnsupportedError(Exception):
    """A feature that a pod requires and this node does not support."""


class PodVolumes:
    """Raises UnsupportedError for a kind of volume that the node does not have."""

    def __init__(
        self,
        folder: Path,
        identity: PodIdentity,
        objects: PodObjects,
        tokens: PodTokens,
        ownership: Ownership,
    ) -> None:
        self._folder = folder
        self._identity = identity
        self._objects = objects
        self._tokens = tokens
        self._ownership = ownership
        self._written: dict[str, tuple[Resource, AtomicFolder]] = {}
        for volume in identity.pod["spec"].get("volumes", ()):
            self._make(volume)

    async def fill(self, identity: PodIdentity) -> None:
        """Writes the changes since the last call.

        Raises MissingError, DownwardError and KubernetesError; other volumes may be written already.
        """
        self._identity = identity
        for volume, folder in self._written.values():
            folder.write({name: self._owned(file) async for name, file in self._files(volume)})

    def source(self, mount: Resource) -> Path:
        """The contents of a container's `volumeMount`. Raises UnsupportedError."""
        if "subPathExpr" in mount:
            raise UnsupportedError(f"mount of {mount['name']!r}: subPathExpr is not supported by this node")
        path: Path = self._folder / mount["name"] / mount.get("subPath", "")
        if ".." in Path(mount.get("subPath", "")).parts:
            raise UnsupportedError(
                f"mount of {mount['name']!r}: subPath {mount['subPath']!r} leaves the volume"
            )
        if not path.exists():
            path.mkdir(parents=True)
        return path

    def is_read_only(self, mount: Resource) -> bool:
        """As requested; files that the node writes are always read-only."""
        return bool(mount.get("readOnly")) or mount["name"] in self._written

    def _make(self, volume: Resource) -> None:
        name = volume["name"]
        kinds = volume.keys() - {"name"}
        if kinds == {"emptyDir"}:
            self._make_empty_folder(self._folder / name, volume["emptyDir"] or {})
        elif kinds & {"configMap", "secret", "downwardAPI", "projected"}:
            self._written[name] = (volume, AtomicFolder(self._folder / name))
        else:
            raise UnsupportedError(
                f"volume {name!r}: {', '.join(sorted(kinds))} is not supported by this node"
            )

    def _make_empty_folder(self, folder: Path, options: Resource) -> None:
        folder.mkdir(parents=True)
        if options.get("medium") == "Memory":
            limit = options.get("sizeLimit")
            size_bytes = None if limit is None else int(amount(limit))
            mount_tmpfs(folder, mode=SHARED_FOLDER, size_bytes=size_bytes)
        if self._ownership.group is None:
            folder.chmod(SHARED_FOLDER)
        else:
            os.chown(folder, 0, self._ownership.group)
            folder.chmod(SHARED_FOLDER | SET_GROUP)

    def _owned(self, file: File) -> File:
        """The pod's `fsGroup` may read the file."""
        if self._ownership.group is None:
            return file
        return replace(file, mode=file.mode | GROUP_READS, group=self._ownership.group)

    async def _files(self, volume: Resource) -> AsyncIterator[tuple[str, File]]:
        (projected,) = (volume[kind] for kind in volume if kind != "name")
        mode = projected.get("defaultMode", DEFAULT_MODE)
        for source in projected["sources"] if "projected" in volume else [volume]:
            async for name, file in self._source_files(source, mode):
                yield name, file

    async def _source_files(self, source: Resource, mode: int) -> AsyncIterator[tuple[str, File]]:
        if token := source.get("serviceAccountToken"):
            lifetime_s = token.get("expirationSeconds", DEFAULT_TOKEN_LIFETIME_S)
            value = await self._tokens.token(token.get("audience", ""), lifetime_s)
            if self._ownership != Ownership():
                mode = TOKEN_MODE_OF_OWNED
            yield token["path"], File(content=value.encode(), mode=mode, user=self._ownership.user or 0)
        elif (config_map := source.get("configMap")) is not None:
            optional = config_map.get("optional", False)
            values = await self._objects.config_map(config_map["name"], optional=optional)
            for named in select(values, config_map, mode):
                yield named
        elif (secret := source.get("secret")) is not None:
            # A plain volume has `secretName`, a source of a projected one `name`.
            name = secret.get("secretName") or secret["name"]
            values = await self._objects.secret(name, optional=secret.get("optional", False))
            for named in select(values, secret, mode):
                yield named
        elif (downward := source.get("downwardAPI")) is not None:
            for item in downward.get("items", ()):
                yield item["path"], File(content=self._downward(item).encode(), mode=item.get("mode", mode))
        else:
            raise UnsupportedError(f"projected volume: {', '.join(source)} is not supported by this node")

    def _downward(self, item: Resource) -> str:
        if reference := item.get("fieldRef"):
            return self._identity.field(reference["fieldPath"])
        return self._identity.resource(item["resourceFieldRef"], container="")


def select(values: Mapping[str, bytes], source: Resource, mode: int) -> list[tuple[str, File]]:
    """The keys that the source lists as `items`, or else all of them. Raises MissingError."""
    if not source.get("items"):
        return [(key, File(content=value, mode=mode)) for key, value in values.items()]
    files = []
    for item in source["items"]:
        if item["key"] in values:
            file = File(content=values[item["key"]], mode=item.get("mode", mode))
            files.append((item["path"], file))
        elif not source.get("optional"):
            raise MissingError(f"references non-existent key {item['key']!r}")
    return files
