"""The order of the whole data path, in one function.

downstream -> listener -> TLS -> codec -> connection manager -> route -> filters -> router
           -> cluster -> pool -> TLS -> codec -> upstream
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from sidecar.config.dns import DnsResolver
from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import HttpConnectionManager, Listener, TcpProxy, TrafficDirection
from sidecar.filters.chain import FilterContext, FilterRegistry, HttpFilterChain
from sidecar.filters.registry import FILTERS
from sidecar.http.codec import client_codec, server_codec
from sidecar.http.connection_manager import ConnectionManager
from sidecar.http.tracing import RequestTracing
from sidecar.identity.contexts import TlsContexts
from sidecar.listener.handler import ConnectionHandler
from sidecar.listener.listen_socket import OpenSocket, bind
from sidecar.listener.manager import ListenerManager, ListenerSettings
from sidecar.listener.tcp_proxy import TcpProxyHandler, TcpProxyServices
from sidecar.observability.stats import Stats
from sidecar.observability.telemetry import Telemetry
from sidecar.router.exchange import RouterEnvironment
from sidecar.router.resolution import RouteResolver
from sidecar.router.route_tables import RouteTables
from sidecar.router.router import Router
from sidecar.timers import Timers
from sidecar.transport.forwarding import forwarder
from sidecar.upstream.cluster_manager import ClusterManager
from sidecar.upstream.outlier_detection import HostEjection
from sidecar.upstream.shared_counters import WorkerCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The parts that stay when the configuration changes."""

    listeners: ListenerManager
    routes: RouteTables
    router: Router
    clusters: ClusterManager
    contexts: TlsContexts


def build_stack(
    *,
    timers: Timers,
    stats: Stats,
    telemetry: Telemetry,
    drain_time_s: float,
    dns_resolver: DnsResolver,
    node_id: str = "",
    node_cluster: str = "",
    on_warm: Callable[[], None],
    counters: WorkerCounters | None = None,
    on_ejection: Callable[[HostEjection], None] = lambda ejection: None,
    open_socket: OpenSocket = bind,
    filters: FilterRegistry = FILTERS,
) -> Stack:
    """Built from the upstream side: each layer is given the layer that it passes requests to."""
    loop = asyncio.get_running_loop()
    contexts = TlsContexts()

    def is_own_listener(address: SocketAddress) -> bool:
        return listeners.listens_on(address)

    # cluster -> pool -> TLS -> codec
    clusters = ClusterManager(
        stats=stats,
        tls=contexts,
        http_connection_factory=client_codec,
        timers=timers,
        loop=loop,
        default_resolver=dns_resolver,
        is_own_listener=is_own_listener,
        on_warm=on_warm,
        counters=counters,
        on_ejection=on_ejection,
    )
    router_env = RouterEnvironment(timers=timers, loop=loop)
    router = Router(router_env)
    routes = RouteTables(filters.compile_route_config)
    filter_context = FilterContext(
        find_cluster=clusters.find,
        stats=stats,
        router_env=router_env,
        local_cluster=node_cluster,
        node_id=node_id,
        local_workload=telemetry.source.local.metadata,
    )

    # codec -> connection manager -> route -> filters -> router
    def make_http(config: HttpConnectionManager, listener: Listener) -> ConnectionHandler:
        inline = config.route_config
        table = routes.ref(config.rds_name) if inline is None else routes.inline(inline)
        tracing: RequestTracing | None = None
        if config.tracing is not None:
            tracing = RequestTracing(
                config.tracing,
                config.request_id,
                egress=listener.direction is TrafficDirection.OUTBOUND,
                stats=stats.tracing(config.stat_prefix),
            )
        chain = HttpFilterChain(
            config,
            resolver=RouteResolver(config, table, clusters.find),
            router=router,
            registry=filters,
            context=filter_context,
            tracing=tracing,
        )
        return ConnectionManager(
            config,
            chain,
            stats.http(config.stat_prefix),
            codec=server_codec,
            timers=timers,
            http2_stats=stats.http2(),
            on_complete=telemetry.for_requests(listener.direction, config.access_logs),
            on_disconnect=telemetry.for_listener(listener.access_logs),
            on_closed=chain.close,
            tracing=tracing,
        )

    # or, for a filter chain without HTTP: TCP proxy -> cluster
    tcp_forwarder = forwarder(loop)

    def make_tcp(config: TcpProxy, listener: Listener) -> ConnectionHandler:
        access_logs = (*config.access_logs, *listener.access_logs)
        services = TcpProxyServices(
            find_cluster=clusters.get,
            timers=timers,
            forwarder=tcp_forwarder,
            observer=telemetry.for_connections(listener.direction, access_logs),
            rng=random.Random(),
        )
        return TcpProxyHandler(config, stats.tcp(config.stat_prefix), services)

    # listener -> TLS -> the handler of the filter chain
    listeners = ListenerManager(
        contexts=contexts,
        make_http=make_http,
        make_tcp=make_tcp,
        observe_refused=lambda listener: telemetry.for_listener(listener.access_logs),
        stats=stats,
        timers=timers,
        settings=ListenerSettings(drain_time_s=drain_time_s),
        open_socket=open_socket,
    )
    return Stack(listeners=listeners, routes=routes, router=router, clusters=clusters, contexts=contexts)
