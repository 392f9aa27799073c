"""Istio's ``VirtualService``: the routes of hosts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from controlplane.kinds.destination_references import check_destinations
from controlplane.kinds.kind import Kind, Traces, Viewers
from controlplane.kinds.request_target_warnings import request_target_warnings
from controlplane.model.claim import Claim
from controlplane.model.hosts import export_scopes
from controlplane.model.kind import HostResolver, Touched, policy
from controlplane.model.proxy import ProxyProgress
from controlplane.model.snapshot import Config
from controlplane.resources.http_route import HTTPRoute
from controlplane.resources.kind import ISTIO_NETWORKING
from controlplane.resources.route_destination import WeightedDestination, is_for_mesh
from controlplane.resources.virtual_service import TCPRoute, TLSRoute, VirtualService, concerns_mesh
from protos.type_urls import CLUSTER, LISTENER, ROUTE

RouteT = TypeVar("RouteT", HTTPRoute, TLSRoute, TCPRoute)
_Config = Config[VirtualService]

# The longest list in a warning.
_MOST_NAMES: Final = 5


def _qualify(spec: VirtualService, resolve: HostResolver) -> VirtualService:
    if not is_for_mesh(spec.gateways):
        # Without hosts, a VirtualService configures no sidecar and conflicts with no other resource.
        return spec.model_copy(update={"hosts": (), "http": (), "tls": (), "tcp": ()})
    routes = {name: _qualify_routes(getattr(spec, name), resolve) for name in ("http", "tls", "tcp")}
    return spec.model_copy(update={"hosts": tuple(map(resolve, spec.hosts)), **routes})


def _qualify_routes(routes: tuple[RouteT, ...], resolve: HostResolver) -> tuple[RouteT, ...]:
    return tuple(
        route.model_copy(update={"route": tuple(_qualify_destination(each, resolve) for each in route.route)})
        for route in routes
    )


def _qualify_destination(weighted: WeightedDestination, resolve: HostResolver) -> WeightedDestination:
    destination = weighted.destination.model_copy(update={"host": resolve(weighted.destination.host)})
    return weighted.model_copy(update={"destination": destination})


def _warnings(spec: VirtualService) -> Iterator[str]:
    yield from _gateways(spec)
    yield from _headers_without_effect(spec)
    yield from request_target_warnings(spec)
    yield from _filters_without_effect(spec)


def _gateways(spec: VirtualService) -> Iterator[str]:
    others = spec.other_gateways
    if not is_for_mesh(spec.gateways):
        yield (
            "spec.gateways: sidecars do not use this resource, and gateways are not supported yet: "
            f"{_few(others)}"
        )
    elif others:
        yield (
            "spec.gateways: sidecars follow the part that is for `mesh`; "
            f"gateways are not supported yet: {_few(others)}"
        )


def _few(names: Sequence[str]) -> str:
    """Lists enough of the names to identify the resource."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _headers_without_effect(spec: VirtualService) -> Iterator[str]:
    for index, rule in enumerate(spec.http):
        levels = [(f"spec.http[{index}]", rule.headers)]
        levels += [
            (f"spec.http[{index}].route[{number}]", weighted.headers)
            for number, weighted in enumerate(rule.route)
        ]
        for path, headers in levels:
            for field in headers.without_effect() if headers else ():
                yield f"{path}.headers.{field}: has no effect: proxies set the framing of messages themselves"


def _filters_without_effect(spec: VirtualService) -> Iterator[str]:
    for index, rule in enumerate(spec.http):
        path, fault = f"spec.http[{index}]", rule.fault
        if fault and fault.delay and fault.delay.percentage is None and not fault.delay.percent:
            yield f"{path}.fault.delay: delays no request: `percentage` is missing"
        if fault and fault.abort and fault.abort.percentage is None:
            yield f"{path}.fault.abort: aborts no request: `percentage` is missing"
        if rule.cors_policy is None:
            continue
        if not rule.route:
            yield f"{path}.corsPolicy: has no effect: the proxy itself answers the requests of this route"
        elif not rule.cors_policy.origins:
            yield f"{path}.corsPolicy: matches no origin: `allowOrigins` is empty"


def _claims(config: _Config) -> Iterator[Claim]:
    """Claims each host, so that a namespace sees only one VirtualService for it."""
    for index, host in enumerate(config.spec.hosts):
        yield Claim(
            subject=("routes of a host", host),
            scopes=export_scopes(config.spec.export_to, config.key.namespace),
            path=f"spec.hosts[{index}]",
            description=f"the host {host}",
            verb="routed",
            owner=config.key.namespace,
            order=config.order,
        )


def _narrow(before: _Config, after: _Config) -> Touched | None:
    """If only HTTP routes differ, and they make the same services visible, only route configurations change.
    A visible service has clusters and listeners."""
    old, new = before.spec, after.spec
    same = old.model_copy(update={"http": ()}) == new.model_copy(update={"http": ()})
    if same and set(_destination_hosts(old)) == set(_destination_hosts(new)):
        return Touched(types=frozenset({ROUTE}))
    return None


def _destination_hosts(spec: VirtualService) -> Iterator[str]:
    for rule in filter(concerns_mesh, spec.http):
        yield from (weighted.destination.host for weighted in rule.route)


def _affected(config: _Config, viewers: Viewers) -> Sequence[ProxyProgress]:
    """The proxies that see the VirtualService."""
    return viewers.all_if(id(config) in viewers.virtual_services)


def _traces(config: _Config, _: Viewers) -> Traces:
    spec = config.spec
    return Traces(types=frozenset({"rds", "lds"} if spec.tls or spec.tcp else {"rds"}), hosts=spec.hosts)


VIRTUAL_SERVICE: Final[Kind[VirtualService, _Config]] = Kind(
    name="VirtualService",
    spec=VirtualService,
    api_versions=ISTIO_NETWORKING,
    plural="virtualservices",
    short_names=("vs",),
    columns={"Gateways": ".spec.gateways", "Hosts": ".spec.hosts"},
    view=policy(_qualify),
    warnings=_warnings,
    claims=_claims,
    references=check_destinations,
    has_destinations=True,
    # The destination of a route becomes visible: it has a cluster, and may have a listener.
    touches=frozenset({CLUSTER, LISTENER, ROUTE}),
    narrow=_narrow,
    affected=_affected,
    traces=_traces,
)
