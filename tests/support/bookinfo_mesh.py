"""Bookinfo as a snapshot, with something of everything that the builders know."""

from __future__ import annotations

from typing import Any, Final

from controlplane.model.proxy import InterceptionMode, Proxy
from controlplane.model.service import Protocol, Resolution
from controlplane.model.snapshot import MeshSnapshot
from tests.support.meshes import (
    external_service,
    grpc_proxy,
    mesh,
    port,
    service,
    sidecar_proxy,
    workload,
)

REVIEWS: Final = "reviews.default.svc.cluster.local"
RATINGS: Final = "ratings.default.svc.cluster.local"
DETAILS: Final = "details.default.svc.cluster.local"
MYSQL: Final = "mysql.data.svc.cluster.local"


def _to(host: str, subset: str, weight: int = 0, **fields: Any) -> dict[str, Any]:
    return {"destination": {"host": host, "subset": subset}, "weight": weight, **fields}


_REVIEWS_ROUTES: Final = {
    "hosts": [REVIEWS],
    "http": [
        {
            "name": "jason",
            "match": [
                {
                    "name": "header",
                    "uri": {"prefix": "/reviews"},
                    "headers": {"end-user": {"exact": "jason"}, "x-debug": {}},
                    "withoutHeaders": {"x-skip": {"regex": "t.+"}},
                    "queryParams": {"v": {"exact": "3"}},
                    "method": {"exact": "GET"},
                    "authority": {"prefix": "reviews"},
                    "ignoreUriCase": True,
                },
                {"uri": {"regex": "/v3/[0-9]+"}},
            ],
            "route": [_to(REVIEWS, "v3")],
            "rewrite": {"uri": "/reviews/", "authority": "reviews.example.com"},
            "timeout": "2.5s",
            "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "5xx,429"},
            "headers": {"response": {"set": {"x-version": "v3"}, "remove": ["server"]}},
            "fault": {
                "delay": {"fixedDelay": "7s", "percentage": {"value": 0.1}},
                "abort": {"httpStatus": 503, "percentage": {"value": 50}},
            },
        },
        {
            "match": [{"uri": {"exact": "/old"}}],
            "redirect": {
                "uri": "/new",
                "authority": "reviews.example.com",
                "scheme": "https",
                "redirectCode": 308,
            },
        },
        {
            "match": [{"uri": {"prefix": "/teapot"}}],
            "directResponse": {"status": 418, "body": {"string": "short and stout"}},
        },
        {
            "match": [{"uri": {"prefix": "/ids"}}],
            "rewrite": {"uriRegexRewrite": {"match": "^/ids/(.*)$", "rewrite": r"/reviews/\1"}},
            "route": [_to(REVIEWS, "v1")],
        },
        {
            "name": "canary",
            "corsPolicy": {
                "allowOrigins": [
                    {"exact": "https://example.com"},
                    {"regex": r"https://[a-z]+\.example\.com"},
                ],
                "allowMethods": ["GET", "PUT"],
                "allowHeaders": ["x-version"],
                "maxAge": "24h",
                "allowCredentials": True,
            },
            "route": [
                _to(REVIEWS, "v1", 90),
                _to(REVIEWS, "v2", 10, headers={"request": {"add": {"x-canary": "100%%"}}}),
            ],
        },
    ],
}
_REVIEWS_POLICY: Final = {
    "host": REVIEWS,
    "trafficPolicy": {
        "loadBalancer": {"simple": "ROUND_ROBIN"},
        "connectionPool": {
            "tcp": {
                "maxConnections": 100,
                "connectTimeout": "1s",
                "tcpKeepalive": {"time": "600s", "probes": 3},
            },
            "http": {"http1MaxPendingRequests": 50, "idleTimeout": "30s", "maxRequestsPerConnection": 1000},
        },
        "outlierDetection": {
            "consecutive5xxErrors": 3,
            "consecutiveGatewayErrors": 2,
            "interval": "1s",
            "baseEjectionTime": "10s",
            "maxEjectionPercent": 50,
        },
    },
    "subsets": [
        {"name": "v1", "labels": {"version": "v1"}},
        {"name": "v2", "labels": {"version": "v2"}, "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}},
        {"name": "v3", "labels": {"version": "v3"}},
    ],
}


def bookinfo() -> MeshSnapshot:
    return mesh(
        (service("productpage"), [workload("productpage", "10.1.0.1")]),
        (service("details"), [workload("details", "10.1.0.2", mesh_tls=False)]),
        (
            service("reviews", addresses=("10.96.0.10",)),
            [
                workload("reviews", "10.1.0.3", "v1", locality="eu/a"),
                workload("reviews", "10.1.0.4", "v1", locality="eu/b", weight=2),
                workload("reviews", "10.1.0.5", "v2", locality="eu/a"),
                workload("reviews", "10.1.0.6", "v3", locality="eu/b"),
            ],
        ),
        (service("ratings", port(9080), port(9090, Protocol.GRPC)), [workload("ratings", "10.1.0.7")]),
        (
            service("mysql", port(3306, Protocol.TCP), namespace="data", addresses=("10.96.0.20",)),
            [workload("mysql", "10.1.0.8", namespace="data")],
        ),
        (external_service("api.example.com", port(80), port(443, Protocol.TLS)), []),
        (external_service("*.example.org", port(443, Protocol.TLS), resolution=Resolution.NONE), []),
        virtual_services={
            "reviews": _REVIEWS_ROUTES,
            "data/mysql": {
                "hosts": [MYSQL],
                "tcp": [{"match": [{"port": 3306}], "route": [{"destination": {"host": MYSQL}}]}],
            },
            "api": {
                "hosts": ["api.example.com"],
                "tls": [
                    {
                        "match": [{"sniHosts": ["api.example.com"], "port": 443}],
                        "route": [{"destination": {"host": "api.example.com"}}],
                    }
                ],
            },
        },
        destination_rules={
            "reviews": _REVIEWS_POLICY,
            "ratings": {"host": RATINGS, "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}},
            "details": {"host": DETAILS, "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
            "api": {
                "host": "api.example.com",
                "trafficPolicy": {
                    "portLevelSettings": [
                        {"port": {"number": 80}, "tls": {"mode": "SIMPLE", "sni": "api.example.com"}}
                    ]
                },
            },
        },
        sidecars={
            "explicit": {
                "workloadSelector": {"labels": {"interception": "none"}},
                "ingress": [
                    {
                        "port": {"number": 19080, "protocol": "HTTP", "name": "http"},
                        "captureMode": "NONE",
                        "bind": "127.0.0.1",
                        "defaultEndpoint": "127.0.0.1:29080",
                    }
                ],
                "egress": [{"hosts": ["./*", "data/*"]}],
                "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            }
        },
        peer_authentications={
            "reviews": {
                "selector": {"matchLabels": {"app": "reviews"}},
                "mtls": {"mode": "STRICT"},
                "portLevelMtls": {"9443": {"mode": "DISABLE"}},
            }
        },
    )


def bookinfo_proxies() -> dict[str, Proxy]:
    """One of each kind: redirected and permissive, redirected and strict, explicit, gRPC's own client."""
    explicit = {"app": "productpage", "version": "v1", "interception": "none"}
    return {
        "redirected": sidecar_proxy("ratings", ip="10.1.0.7"),
        "strict": sidecar_proxy("reviews", ip="10.1.0.3"),
        "explicit": sidecar_proxy(
            "productpage",
            ip="127.0.0.1",
            labels=explicit,
            interception_mode=InterceptionMode.NONE,
            http_proxy_port=15080,
        ),
        "grpc": grpc_proxy(),
    }


def route_config_names(proxy_name: str) -> list[str]:
    """The route configurations that a proxy's listeners name."""
    return {
        "redirected": ["80", "9080", "9090"],
        "strict": ["80", "9080", "9090"],
        "explicit": ["http_proxy"],
        "grpc": [f"outbound|9080||{REVIEWS}", f"outbound|9090||{RATINGS}"],
    }[proxy_name]
