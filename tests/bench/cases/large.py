"""1000 clusters of 10 endpoints over delta xDS: the time to apply them, one endpoint's change, and memory."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import ExitStack
from functools import cache

from envoy.service.discovery.v3.discovery_pb2 import Resource

from protos import type_urls
from tests.bench.case import Bar, Case, Figures
from tests.bench.documents import Document, document, http_filter, listener, virtual_host
from tests.bench.fresh import each_round
from tests.bench.proxies import accounting
from tests.bench.proxies.launch import Kind
from tests.bench.site import SERVER, Site
from tests.bench.traffic import memory_figures
from tests.support.ads_server import Stream, ads_server, packed
from tests.support.envoy_config import address, eds_cluster, static_cluster, upstream_tls

CLUSTERS = 1000
ENDPOINTS = 10
CHANGES = 5
_SETTLE_S = 0.5
_LATEST_S = 60.0
_ADS: Document = {"ads": {}, "resource_api_version": "V3"}


def large(site: Site, kind: Kind) -> Figures:
    return asyncio.run(follow(site, kind))


async def follow(site: Site, kind: Kind) -> Figures:
    """`apply_s` is from the first resource that the server sends to the acknowledgement of the last."""
    clusters, endpoints = resources()
    async with ads_server() as server:
        with ExitStack() as stack:
            file = bootstrap(site, server.port)
            process = kind.start(site, stack, file, workers=site.concurrency, ready=False)
            stream = await server.stream()
            await stream.request(type_urls.CLUSTER)
            start_s = time.perf_counter()
            await send_everything(stream, clusters, endpoints, site.free_port())
            apply_s = time.perf_counter() - start_s
            await asyncio.sleep(_SETTLE_S)
            changes = [await change(stream, process.pid, number) for number in range(CHANGES)]
            return memory_figures([process.pid]) | {
                "apply_s": apply_s,
                "change_ms": statistics.median(waited_ms for waited_ms, _ in changes),
                "change_cpu_ms": statistics.median(cpu_ms for _, cpu_ms in changes),
            }


@cache
def resources() -> tuple[list[Resource], list[Resource]]:
    """The clusters and their endpoints, made once: that takes longer than to apply them."""
    names = [cluster_name(number) for number in range(CLUSTERS)]
    assignments = [endpoints_of(number, ENDPOINTS) for number in range(CLUSTERS)]
    return (
        [resource(name, type_urls.CLUSTER, cluster(name)) for name in names],
        [resource(name, type_urls.ENDPOINT, each) for name, each in zip(names, assignments, strict=True)],
    )


def resource(name: str, type_url: str, content: Document) -> Resource:
    return Resource(name=name, version="1", resource=packed(type_url, content))


async def send_everything(
    stream: Stream, clusters: list[Resource], endpoints: list[Resource], port: int
) -> None:
    stream.post_delta(type_urls.CLUSTER, *clusters)
    await subscribed(stream, {each.name for each in clusters})
    await stream.send_delta(type_urls.ENDPOINT, *endpoints)
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": clusters[0].name}}]
    entry = listener(port, http_filter([virtual_host(routes=routes)]))
    await stream.send_delta(type_urls.LISTENER, entry)


async def subscribed(stream: Stream, names: set[str]) -> None:
    """Until the proxy has asked for the endpoints of all."""
    end_s = time.perf_counter() + _LATEST_S
    missing, seen = set(names), 0
    while missing:
        if time.perf_counter() > end_s:
            raise AssertionError(f"the proxy did not ask for the endpoints of {len(missing)} clusters")
        await asyncio.sleep(0.002)
        for request in stream.received[seen:]:
            missing.difference_update(request.resource_names_subscribe)
        seen = len(stream.received)


async def change(stream: Stream, pid: int, number: int) -> tuple[float, float]:
    """One endpoint more in one cluster: milliseconds until it is acknowledged, and of the proxy's CPU."""
    before, start_s = accounting.usage([pid]), time.perf_counter()
    document = endpoints_of(number, ENDPOINTS + 1)
    await stream.send_delta(type_urls.ENDPOINT, document, version=f"change-{number}")
    waited_s = time.perf_counter() - start_s
    await asyncio.sleep(_SETTLE_S)
    return waited_s * 1000, accounting.usage([pid]).since(before).cpu_ns / 1e6


def bootstrap(site: Site, ads_port: int) -> Document:
    http2 = {"http2_protocol_options": {}}
    made = document([], [static_cluster("xds", ads_port) | http2])
    made["dynamic_resources"] = {
        "cds_config": _ADS,
        "lds_config": _ADS,
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
        },
    }
    own = site.client
    certificate = {
        "certificate_chain": {"filename": own.certificate},
        "private_key": {"filename": own.key},
    }
    made["static_resources"]["secrets"] = [
        {"name": "default", "tls_certificate": certificate},
        {"name": "ROOTCA", "validation_context": {"trusted_ca": {"filename": own.trusted_ca}}},
    ]
    return made


def cluster_name(number: int) -> str:
    return f"outbound|80||s{number}.default.svc.cluster.local"


def cluster(name: str) -> Document:
    """As Istio configures it: mutual TLS, limits, outlier detection."""
    matcher = {"san_type": "URI", "matcher": {"exact": SERVER}}
    validation = {
        "default_validation_context": {"match_typed_subject_alt_names": [matcher]},
        "validation_context_sds_secret_config": {"name": "ROOTCA"},
    }
    tls = upstream_tls(
        tls_certificate_sds_secret_configs=[{"name": "default"}], combined_validation_context=validation
    )
    tls["typed_config"]["sni"] = name.replace("|", "_")
    return eds_cluster(
        name,
        lb_policy="LEAST_REQUEST",
        connect_timeout="10s",
        circuit_breakers={"thresholds": [{"max_connections": 10000, "max_requests": 10000}]},
        outlier_detection={"consecutive_5xx": 5, "interval": "10s", "base_ejection_time": "30s"},
        transport_socket=tls,
    )


def endpoints_of(number: int, count: int) -> Document:
    places = [
        {"endpoint": {"address": address(80, f"10.{replica}.{number // 250}.{number % 250 + 1}")}}
        for replica in range(count)
    ]
    return {"cluster_name": cluster_name(number), "endpoints": [{"lb_endpoints": places}]}


CASES = [
    Case(
        name="large",
        title=f"{CLUSTERS} clusters of {ENDPOINTS} endpoints over delta xDS, then one endpoint's change",
        unit="proxy",
        compared="resident_mib",
        bars=[Bar(figure="resident_mib", limit=0.6, aim=0.5)],
        start=each_round(large),
    )
]
