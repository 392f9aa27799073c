"""The messages of the stream: serializes requests, and parses responses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sidecar.config.bootstrap import AdsVariant
from sidecar.xds.messages import message_class
from sidecar.xds.store import RawResource
from sidecar.xds.subscription import DeltaRequest, Request

_DISCOVERY = "envoy.service.discovery.v3"
_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
_INVALID_ARGUMENT = 3  # google.rpc.Code
_WRAPPER = "envoy.service.discovery.v3.Resource"

METHODS = {
    AdsVariant.SOTW: f"{_SERVICE}/StreamAggregatedResources",
    AdsVariant.DELTA: f"{_SERVICE}/DeltaAggregatedResources",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class XdsResponse:
    """A response of either variant. ``complete``: resources that are not in it do not exist (state of the
    world)."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[RawResource, ...]
    removed: tuple[str, ...] = ()
    complete: bool = False


def serialize(request: Request, node: bytes) -> bytes:
    """``node`` is the serialized Node, which only the first request of a stream carries."""
    if isinstance(request, DeltaRequest):
        message: Any = message_class(f"{_DISCOVERY}.DeltaDiscoveryRequest")(
            type_url=request.type_url,
            response_nonce=request.nonce,
            resource_names_subscribe=request.subscribe,
            resource_names_unsubscribe=request.unsubscribe,
            initial_resource_versions=request.initial_versions,
        )
    else:
        message = message_class(f"{_DISCOVERY}.DiscoveryRequest")(
            type_url=request.type_url,
            version_info=request.version,
            response_nonce=request.nonce,
            resource_names=request.names,
        )
    if node:
        message.node.CopyFrom(message_class("envoy.config.core.v3.Node").FromString(node))
    if request.error:
        message.error_detail.CopyFrom(
            message_class("google.rpc.Status")(code=_INVALID_ARGUMENT, message=request.error)
        )
    return bytes(message.SerializeToString())


def parse(variant: AdsVariant, data: bytes) -> XdsResponse:
    """Raises protobuf's ``DecodeError`` for invalid bytes."""
    if variant is AdsVariant.DELTA:
        return _parse_delta(data)
    message = message_class(f"{_DISCOVERY}.DiscoveryResponse").FromString(data)
    return XdsResponse(
        type_url=message.type_url,
        version=message.version_info,
        nonce=message.nonce,
        resources=tuple(_unwrap(message.resources, message.version_info)),
        complete=True,
    )


def _parse_delta(data: bytes) -> XdsResponse:
    message = message_class(f"{_DISCOVERY}.DeltaDiscoveryResponse").FromString(data)
    return XdsResponse(
        type_url=message.type_url,
        version=message.system_version_info,
        nonce=message.nonce,
        resources=tuple(
            RawResource(
                name=resource.name,
                version=resource.version,
                type_url=resource.resource.type_url,
                body=resource.resource.value,
            )
            for resource in message.resources
        ),
        removed=tuple(message.removed_resources),
    )


def _unwrap(resources: Iterable[Any], version: str) -> Iterable[RawResource]:
    """A server can wrap a resource in a ``Resource``, which has its name."""
    for packed in resources:
        if packed.type_url.rpartition("/")[2] != _WRAPPER:
            yield RawResource(version=version, type_url=packed.type_url, body=packed.value)
            continue
        inner = message_class(f"{_DISCOVERY}.Resource").FromString(packed.value)
        yield RawResource(
            name=inner.name, version=version, type_url=inner.resource.type_url, body=inner.resource.value
        )
