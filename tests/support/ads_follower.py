"""A sidecar that follows an `AdsServer`: its bootstrap, and the beginning of its stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from protos import type_urls
from sidecar.bootstrap import Bootstrap, load, parse_arguments
from tests.support.ads_server import AdsServer, Stream
from tests.support.envoy_config import bootstrap, changed, static_cluster

HTTP2: dict[str, Any] = {"http2_protocol_options": {}}


def ads_bootstrap(port: int, *, variant: str = "DELTA_GRPC", **xds_cluster: Any) -> Bootstrap:
    return decoded(ads_document(port, variant=variant, **xds_cluster))


def ads_document(port: int, *, variant: str = "DELTA_GRPC", **xds_cluster: Any) -> dict[str, Any]:
    document = bootstrap()
    document["static_resources"]["listeners"] = []
    cluster = {**static_cluster("xds", port), **HTTP2, **xds_cluster}
    document = changed(document, "static_resources.clusters[2]", cluster)
    source = {"ads": {}, "resource_api_version": "V3"}
    document["dynamic_resources"] = {
        "cds_config": source,
        "lds_config": source,
        "ads_config": {
            "api_type": variant,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
        },
    }
    return document


def decoded(document: Mapping[str, Any]) -> Bootstrap:
    return load(parse_arguments(["--config-yaml", json.dumps(document)], {}))


async def no_delay(seconds: float) -> None:
    await asyncio.sleep(0.02)


async def accept(server: AdsServer) -> Stream:
    """A new stream, after its first request, which is for all clusters."""
    stream = await server.stream()
    await stream.request(type_urls.CLUSTER)
    return stream
