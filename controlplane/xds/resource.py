"""One serialized resource, and the versions of responses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from protos import type_urls

# Responses of these types replace all of the proxy's resources of the type; those of other types update the
# resources that they contain. A name table is a single resource, which Istio's agent requests without a name.
# https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#grouping-resources-into-responses
WHOLE_STATE_TYPES: Final = frozenset({type_urls.LISTENER, type_urls.CLUSTER, type_urls.NAME_TABLE})

_DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True, eq=False)
class Resource:
    """A serialized resource. ``version`` is a hash of the content, so equal resources have equal versions in
    every process. ``warms_with`` names the load assignment that a proxy needs before it uses this cluster; ""
    for other resources."""

    name: str
    version: str
    packed: Any
    message: Message = field(repr=False)
    warms_with: str = ""


def content_version(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).hexdigest()


def response_version(resources: Iterable[Resource], removed: Iterable[str] = ()) -> str:
    """Returns the version of a response: a hash of the resources that it contains and removes, independent of
    their order."""
    held = sorted(f"{resource.name}\0{resource.version}" for resource in resources)
    return content_version("\n".join((*held, "", *sorted(removed))).encode())


def in_batches(resources: Iterable[Resource], max_bytes: int) -> Iterator[list[Resource]]:
    """Divides resources into batches of about ``max_bytes``. Yields at least one batch, which may be empty; a
    larger resource gets its own batch."""
    batch: list[Resource] = []
    size_bytes = 0
    for resource in resources:
        length_bytes = len(resource.packed.value)
        if batch and size_bytes + length_bytes > max_bytes:
            yield batch
            batch, size_bytes = [], 0
        batch.append(resource)
        size_bytes += length_bytes
    yield batch
