"""The routes of a VirtualService: the actions for matching requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    RedirectAction,
    RetryPolicy,
    Route,
    RouteAction,
    RouteMatch,
    WeightedCluster,
)
from envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate

from controlplane.networking.destinations import with_a_share
from controlplane.networking.messages import extension, uint32
from controlplane.networking.route_filters import configure_filters
from controlplane.networking.route_match import EVERYTHING, route_match
from controlplane.resources.http_route import (
    PROXYS_OWN,
    HeaderOperations,
    Headers,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
    HTTPRouteDestination,
    RedirectPortSelection,
)
from controlplane.resources.request_target import as_sent
from controlplane.resources.route_destination import Destination, is_for_mesh
from controlplane.resources.virtual_service import VirtualService

DEFAULT_ROUTE_NAME: Final = "default"
# Envoy's own default is 15 s; Istio's is no timeout.
NO_TIMEOUT: Final = timedelta(0)
UNTIL_DEADLINE: Final = RouteAction.MaxStreamDuration(
    max_stream_duration=NO_TIMEOUT, grpc_timeout_header_max=NO_TIMEOUT
)

# Only requests that provably never reached the application, or that it declares not to have processed. All
# other retries need a VirtualService. Istio adds `retriable-status-codes` (503), which may repeat a POST.
DEFAULT_RETRY_ON: Final = "connect-failure,refused-stream,unavailable,cancelled,reset-before-request"
_ANOTHER_HOST: Final = extension("envoy.retry_host_predicates.previous_hosts", PreviousHostsPredicate())
_HOST_SELECTION_ATTEMPTS: Final = 5

_REDIRECT_CODES: Final = {
    0: RedirectAction.MOVED_PERMANENTLY,
    301: RedirectAction.MOVED_PERMANENTLY,
    302: RedirectAction.FOUND,
    303: RedirectAction.SEE_OTHER,
    307: RedirectAction.TEMPORARY_REDIRECT,
    308: RedirectAction.PERMANENT_REDIRECT,
}


def default_route(cluster: str, retry_attempts: int) -> Route:
    """The route of a host that no VirtualService routes."""
    action = forward_within(NO_TIMEOUT, cluster=cluster)
    _apply_retries(action, None, retry_attempts)
    return Route(name=DEFAULT_ROUTE_NAME, match=EVERYTHING, route=action)


def forward_within(timeout: timedelta, *, cluster: str = "") -> RouteAction:
    """An action with a timeout. Without one, a gRPC call ends at the deadline of its client. (Istio sends the
    deprecated ``max_grpc_timeout``, of which each Envoy would warn.)"""
    action = RouteAction(timeout=timeout)
    if not timeout:
        action.max_stream_duration.CopyFrom(UNTIL_DEADLINE)
    if cluster:
        action.cluster = cluster
    return action


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteContext:
    """The requests that routes are built for: those to ``port``. ``cluster_of`` names the cluster of a
    destination; ``retry_attempts`` is the default."""

    port: int
    cluster_of: Callable[[Destination], str]
    retry_attempts: int


def virtual_service_routes(spec: VirtualService, context: RouteContext) -> list[Route]:
    """Returns the routes in the order in which they are tried."""
    return [
        _route(rule, name, match, context)
        for rule in spec.http
        for name, match in _matches(rule, context.port)
    ]


def _matches(rule: HTTPRoute, port: int) -> Iterable[tuple[str, RouteMatch]]:
    """One route for each alternative; Istio names them ``<route>.<match>``."""
    if not rule.match:
        yield rule.name, EVERYTHING
    for match in rule.match:
        if match.port in (None, port) and is_for_mesh(match.gateways):
            yield ".".join(filter(None, (rule.name, match.name))), route_match(match)


def _route(rule: HTTPRoute, name: str, match: RouteMatch, context: RouteContext) -> Route:
    route = Route(name=name, match=match)
    if rule.redirect is not None:
        route.redirect.CopyFrom(_redirect(rule.redirect, context.port))
    elif rule.direct_response is not None:
        body = rule.direct_response.body
        answer = DirectResponseAction(status=rule.direct_response.status)
        if body is not None and body.string:
            answer.body.inline_string = body.string
        route.direct_response.CopyFrom(answer)
    else:
        route.route.CopyFrom(_forward(rule, context))
    _apply_headers(route, rule.headers)
    configure_filters(route, rule.fault, rule.cors_policy)
    return route


def _forward(rule: HTTPRoute, context: RouteContext) -> RouteAction:
    action = forward_within(NO_TIMEOUT if rule.timeout is None else rule.timeout)
    destinations = with_a_share(rule.route)
    if len(destinations) == 1 and destinations[0].headers is None:
        action.cluster = context.cluster_of(destinations[0].destination)
    else:
        action.weighted_clusters.clusters.extend(
            _cluster_weight(destination, context) for destination in destinations
        )
    _apply_rewrite(action, rule.rewrite)
    host = _host_override(rule.headers)
    if host and not action.host_rewrite_literal:
        action.host_rewrite_literal = host
    _apply_retries(action, rule.retries, context.retry_attempts)
    return action


def _cluster_weight(
    destination: HTTPRouteDestination, context: RouteContext
) -> WeightedCluster.ClusterWeight:
    weighted = WeightedCluster.ClusterWeight(
        name=context.cluster_of(destination.destination), weight=uint32(destination.weight or 1)
    )
    _apply_headers(weighted, destination.headers)
    weighted.host_rewrite_literal = _host_override(destination.headers)
    return weighted


def _apply_rewrite(action: RouteAction, rewrite: HTTPRewrite | None) -> None:
    if rewrite is None:
        return
    if rewrite.uri is not None:
        # Envoy replaces the part that matched: the prefix, or the whole path of an exact or regex match.
        action.prefix_rewrite = as_sent(rewrite.uri)
    if rewrite.uri_regex_rewrite is not None:
        action.regex_rewrite.pattern.regex = rewrite.uri_regex_rewrite.match
        action.regex_rewrite.substitution = as_sent(rewrite.uri_regex_rewrite.rewrite)
    if rewrite.authority is not None:
        action.host_rewrite_literal = rewrite.authority


def _apply_retries(action: RouteAction, retries: HTTPRetry | None, default_attempts: int) -> None:
    attempts = default_attempts if retries is None else retries.attempts
    if not attempts:
        return
    conditions = (retries.conditions if retries else ()) or DEFAULT_RETRY_ON.split(",")
    statuses = sorted({int(each) for each in conditions if each.isdigit()})
    names = [each for each in conditions if not each.isdigit()]
    if statuses and "retriable-status-codes" not in names:
        names.append("retriable-status-codes")
    policy = RetryPolicy(
        retry_on=",".join(names),
        num_retries=uint32(attempts),
        retriable_status_codes=statuses,
        retry_host_predicate=[_ANOTHER_HOST],
        host_selection_retry_max_attempts=_HOST_SELECTION_ATTEMPTS,
    )
    if retries is not None and retries.per_try_timeout:
        policy.per_try_timeout.FromTimedelta(retries.per_try_timeout)
    action.retry_policy.CopyFrom(policy)


def _redirect(redirect: HTTPRedirect, request_port: int) -> RedirectAction:
    action = RedirectAction(
        host_redirect=redirect.authority or "", response_code=_REDIRECT_CODES[redirect.redirect_code]
    )
    if redirect.uri:
        action.path_redirect = as_sent(redirect.uri)
    if redirect.scheme:
        action.scheme_redirect = redirect.scheme
    if redirect.port:
        action.port_redirect = redirect.port
    elif redirect.derive_port is RedirectPortSelection.FROM_REQUEST_PORT:
        # Envoy cannot derive the port, but a route is always built for one port.
        action.port_redirect = request_port
    return action


def _apply_headers(target: Route | WeightedCluster.ClusterWeight, headers: Headers | None) -> None:
    if headers is None:
        return
    if headers.request:
        target.request_headers_to_add.extend(_header_options(headers.request))
        target.request_headers_to_remove.extend(_removable(headers.request))
    if headers.response:
        target.response_headers_to_add.extend(_header_options(headers.response))
        target.response_headers_to_remove.extend(_removable(headers.response))


def _header_options(operations: HeaderOperations) -> Iterable[HeaderValueOption]:
    for values, action in (
        (operations.set, HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD),
        (operations.add, HeaderValueOption.APPEND_IF_EXISTS_OR_ADD),
    ):
        for name, value in sorted(values.items()):
            # In Envoy, `host` is not a header: see `_host_override`.
            if name != "host" and name not in PROXYS_OWN:
                yield HeaderValueOption(header={"key": name, "value": value}, append_action=action)


def _removable(operations: HeaderOperations) -> Iterable[str]:
    return (name for name in operations.remove if name not in PROXYS_OWN)


def _host_override(headers: Headers | None) -> str:
    """The authority that the header operation ``host`` sets: Envoy rejects it as a header operation."""
    if headers is None or headers.request is None:
        return ""
    return headers.request.set.get("host") or headers.request.add.get("host", "")
