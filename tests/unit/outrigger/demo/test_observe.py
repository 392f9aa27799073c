from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest

from outrigger.demo.observe import GrpcCalls, Hop, ejected, grpc_calls, hops, route_shares, until


def answering(body: Any) -> httpx.AsyncClient:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=body) if isinstance(body, str) else httpx.Response(200, json=body)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


async def test_hops_are_counted_where_requests_were_taken_in() -> None:
    page = (
        'istio_requests_total{reporter="destination",source_principal="spiffe://a",'
        'connection_security_policy="mutual_tls"} 3\n'
        'istio_requests_total{reporter="destination",source_principal="unknown",'
        'connection_security_policy="none"} 1\n'
        'istio_requests_total{reporter="source",source_principal="spiffe://a",'
        'connection_security_policy="unknown"} 9\n'
    )
    async with answering(page) as client:
        counts = await hops(client, 1, "reviews")
    assert counts == {Hop("spiffe://a", "reviews", "mutual_tls"): 3, Hop("unknown", "reviews", "none"): 1}


async def test_grpc_calls_are_counted_by_status_with_their_messages() -> None:
    page = (
        'istio_requests_total{reporter="source",request_protocol="grpc",grpc_response_status="0"} 5\n'
        'istio_requests_total{reporter="source",request_protocol="grpc",grpc_response_status="14"} 2\n'
        'istio_requests_total{reporter="source",request_protocol="http"} 9\n'
        'istio_requests_total{reporter="destination",request_protocol="grpc",grpc_response_status="0"} 3\n'
        'istio_request_messages_total{reporter="source"} 7\n'
        'istio_response_messages_total{reporter="source"} 5\n'
        'istio_response_messages_total{reporter="destination"} 4\n'
    )
    async with answering(page) as client:
        calls = await grpc_calls(client, 1, "source")
    assert calls == GrpcCalls(Counter({"0": 5, "14": 2}), requests=7, responses=5)
    assert calls + calls == GrpcCalls(Counter({"0": 10, "14": 4}), requests=14, responses=10)


async def test_ejected_hosts_are_identified_by_port() -> None:
    def host(port: int, health: dict[str, Any]) -> dict[str, Any]:
        return {"address": {"socket_address": {"port_value": port}}, "health_status": health}

    hosts = [host(1, {"failed_outlier_check": True}), host(2, {})]
    async with answering({"cluster_statuses": [{"host_statuses": hosts}, {}]}) as client:
        assert await ejected(client, 1) == {1}


async def test_route_shares_leave_out_tunnels_and_other_hosts() -> None:
    def route(match: dict[str, Any], action: dict[str, Any]) -> dict[str, Any]:
        return {"match": match, "route": action}

    weighted = {
        "weighted_clusters": {
            "clusters": [
                {"name": "outbound|9080|v1|reviews", "weight": 90},
                {"name": "outbound|9080|v2|reviews", "weight": 10},
            ]
        }
    }
    routes = [
        route({"connect_matcher": {}}, {"cluster": "outbound|9080||reviews"}),
        route({"prefix": "/"}, weighted),
        {"match": {"prefix": "/old"}, "redirect": {}},
        route({"prefix": "/"}, {"cluster": "outbound|9080|v3|reviews"}),
    ]
    virtual_hosts = [
        {"domains": ["reviews:9080"], "routes": routes},
        {"domains": ["ratings:9080"], "routes": [route({}, {"cluster": "outbound|9080||ratings"})]},
    ]
    dump = {"configs": [{"route_config": {"virtual_hosts": virtual_hosts}}]}
    async with answering(dump) as client:
        assert await route_shares(client, 1, "reviews:9080") == [{"v1": 90, "v2": 10}, {"v3": 100}]


async def test_a_wait_that_takes_too_long_ends_with_an_error() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(TimeoutError, match=r"the sky falls: not within 0\.01 s"):
        await until("the sky falls", never, deadline_s=0.01)


async def test_a_process_that_does_not_answer_yet_is_asked_again() -> None:
    asked = []

    async def refused_once() -> bool:
        asked.append(1)
        if len(asked) == 1:
            raise httpx.ConnectError("refused")
        return True

    await until("it answers", refused_once, deadline_s=5)
    assert len(asked) == 2
