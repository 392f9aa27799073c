"""Serialized resources, shared by everything that is sent them.

The builders remember what they built by what it was built from, and hand out the same message object to every
proxy, and for every snapshot, in which those parts are the same. So the message's identity says that a
resource did not change, and its bytes and version are made once.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakValueDictionary

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from controlplane.xds.resource import Resource, content_version

# Messages that are remembered by themselves for one snapshot.
_MOST_TWINS: Final = 65536


class ResourceCache:
    """Holds a resource for as long as a stream does: a closed stream's resources go away with it. Beside
    that, until `forget_twins`, the messages that were built anew and are as they were."""

    def __init__(self) -> None:
        # A resource keeps its message alive, so the id in its key cannot come to mean another message.
        self._by_message: Final[WeakValueDictionary[int, Resource]] = WeakValueDictionary()
        self._by_content: Final[WeakValueDictionary[tuple[str, str, str], Resource]] = WeakValueDictionary()
        # With the message: its id must stay its own.
        self._twins: Final[dict[int, tuple[Message, Resource]]] = {}

    def __len__(self) -> int:
        return len(self._by_content)

    def resource(self, type_url: str, name: str, message: Message) -> Resource:
        known = self._by_message.get(id(message))
        if known is None and (found := self._twins.get(id(message))) is not None:
            known = found[1]
        return self._serialize(type_url, name, message) if known is None else known

    def forget_twins(self) -> None:
        """To be called when there is another snapshot: nobody is sent the messages of the one before."""
        self._twins.clear()

    def _serialize(self, type_url: str, name: str, message: Message) -> Resource:
        # Deterministic: a map has no order of its own, and the version must not change with it.
        body = message.SerializeToString(deterministic=True)
        version = content_version(body)
        # Equal content is shared too: per-proxy builders make the same listener many times.
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
