from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.codec_type import CodecType
from sidecar.config.http_filters import AlpnConfig
from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.http.message import Request, Response
from sidecar.router.match import RouteTable, RouteTableRef
from sidecar.upstream.cluster import Cluster
from tests.support.clusters import idle_cluster, static_cluster
from tests.support.filter_chains import ROUTER, filter_chain
from tests.support.requests import make_request
from tests.support.routes import configuration, prefix, route, to, virtual_host

CONFIG = AlpnConfig(http1=("istio-http/1.1", "istio"), http2=("istio-h2", "istio", "h2"))


async def offered(protocol: str = "HTTP/1.1", cluster: Cluster | None = None) -> tuple[str, ...]:
    async def router(request: Request) -> Response:
        return Response(200, [])

    manager = HttpConnectionManager(
        stat_prefix="x", http_filters=(HttpFilter(name="istio.alpn", config=CONFIG), ROUTER)
    )
    routes = RouteTableRef(RouteTable(configuration(virtual_host(route(prefix(), to("a"))))))
    chain = filter_chain(manager, routes=routes, router=router, find_cluster=lambda name: cluster)
    request = make_request()
    request.info.protocol = protocol
    assert (await chain(request)).status == 200
    return request.info.offered_alpn


def cluster(**options: Any) -> Cluster:
    return idle_cluster(static_cluster(**options))


@pytest.mark.parametrize(
    ("codec_type", "protocol", "expected"),
    [
        (CodecType.HTTP1, "HTTP/1.1", CONFIG.http1),
        (CodecType.HTTP1, "HTTP/2", CONFIG.http1),
        (CodecType.HTTP2, "HTTP/1.1", CONFIG.http2),
        (CodecType.AUTO, "HTTP/1.1", CONFIG.http2),
        (CodecType.DOWNSTREAM, "HTTP/1.1", CONFIG.http1),
        (CodecType.DOWNSTREAM, "HTTP/2", CONFIG.http2),
    ],
)
async def test_the_offer_is_that_of_the_version_that_is_spoken_to_the_host(
    codec_type: CodecType, protocol: str, expected: tuple[str, ...]
) -> None:
    assert await offered(protocol, cluster(codec_type=codec_type)) == expected


async def test_a_cluster_may_keep_its_own_offer() -> None:
    assert await offered(cluster=cluster(alpn_override=False)) == ()


async def test_a_missing_cluster_is_offered_nothing() -> None:
    assert await offered() == ()
