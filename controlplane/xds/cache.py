"""Serialized resources, shared by all streams.

The builders cache their results by their inputs: for equal inputs, they return the same message object for
every proxy and snapshot. So an identical message object is an unchanged resource, and each message is
serialized and hashed once.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakValueDictionary

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from controlplane.xds.resource import Resource, content_version

# The largest number of messages that are cached by identity for one snapshot.
_MOST_TWINS: Final = 65536


class ResourceCache:
    """Holds weak references: a resource lives as long as a stream uses it. A "twin" is a new message whose
    content equals that of a cached resource; twins are remembered until `forget_twins`."""

    def __init__(self) -> None:
        # A resource keeps its message alive, so the id in the key cannot be reused for another message.
        self._by_message: Final[WeakValueDictionary[int, Resource]] = WeakValueDictionary()
        self._by_content: Final[WeakValueDictionary[tuple[str, str, str], Resource]] = WeakValueDictionary()
        # Keeps the message alive, so that its id is not reused.
        self._twins: Final[dict[int, tuple[Message, Resource]]] = {}

    def __len__(self) -> int:
        return len(self._by_content)

    def resource(self, type_url: str, name: str, message: Message) -> Resource:
        known = self._by_message.get(id(message))
        if known is None and (found := self._twins.get(id(message))) is not None:
            known = found[1]
        return self._serialize(type_url, name, message) if known is None else known

    def forget_twins(self) -> None:
        """Must be called for each new snapshot: the messages of the previous one are no longer sent."""
        self._twins.clear()

    def _serialize(self, type_url: str, name: str, message: Message) -> Resource:
        # Deterministic: the version must not depend on the order of map entries.
        body = message.SerializeToString(deterministic=True)
        version = content_version(body)
        # Equal content is shared too: builders that run for each proxy build equal listeners.
        twin = self._by_content.get((type_url, name, version))
        if twin is not None:
            if len(self._twins) >= _MOST_TWINS:
                self.forget_twins()
            self._twins[id(message)] = message, twin
            return twin
        resource = Resource(
            name=name,
            version=version,
            packed=Any(type_url=type_url, value=body),
            message=message,
            warms_with=_endpoints_of(message) if isinstance(message, Cluster) else "",
        )
        self._by_message[id(message)] = resource
        self._by_content[(type_url, name, version)] = resource
        return resource


def _endpoints_of(cluster: Cluster) -> str:
    if cluster.WhichOneof("cluster_discovery_type") != "type" or cluster.type != Cluster.EDS:
        return ""
    return str(cluster.eds_cluster_config.service_name or cluster.name)
