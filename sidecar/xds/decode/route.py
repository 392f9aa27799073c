"""``RouteConfiguration`` and what is in it. Defaults are Envoy's, said in ``envoy.config.route.v3``."""

from __future__ import annotations

from collections.abc import Mapping

from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2

from sidecar.config.route import (
    DEFAULT_REPLAY_LIMIT_BYTES,
    DirectResponseAction,
    ForwardAction,
    PathMatchKind,
    RedirectAction,
    RetryPolicy,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from sidecar.xds.decode.http_filters.registry import decode_per_filter_config
from sidecar.xds.decode.matchers import (
    decode_header_match,
    decode_query_parameter_match,
    decode_regex,
    decode_regex_rewrite,
)
from sidecar.xds.decode.values import decode_header_operations, metadata_strings
from sidecar.xds.decode.view import View

_LB = "envoy.lb"
_MAX_UINT32 = 2**32 - 1
_MAX_DIRECT_RESPONSE_BODY_BYTES = 4096

_RETRY_ON = frozenset(
    (
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "http3-post-connect-failure",
        # Of gRPC's statuses (``x-envoy-retry-grpc-on``).
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    )
)
_PREVIOUS_HOSTS = previous_hosts_pb2.PreviousHostsPredicate.DESCRIPTOR.full_name
_NOT_FOUND_STATUS = {"SERVICE_UNAVAILABLE": 503, "NOT_FOUND": 404, "INTERNAL_SERVER_ERROR": 500}
_REDIRECT_STATUS = {
    "MOVED_PERMANENTLY": 301,
    "FOUND": 302,
    "SEE_OTHER": 303,
    "TEMPORARY_REDIRECT": 307,
    "PERMANENT_REDIRECT": 308,
}
_PATH_KINDS = {
    "prefix": PathMatchKind.PREFIX,
    "path": PathMatchKind.EXACT,
    "path_separated_prefix": PathMatchKind.PATH_SEPARATED_PREFIX,
}


def decode_route_configuration(view: View) -> RouteConfiguration:
    message = view.message
    max_body_bytes = view.wrapped("max_direct_response_body_size_bytes", _MAX_DIRECT_RESPONSE_BODY_BYTES)
    virtual_hosts = tuple(_virtual_host(host, max_body_bytes) for host in view.each("virtual_hosts"))
    _refuse_duplicate_domains(view, virtual_hosts)
    return RouteConfiguration(
        name=message.name,
        virtual_hosts=virtual_hosts,
        headers=decode_header_operations(view),
        ignore_port_in_host_matching=message.ignore_port_in_host_matching,
        most_specific_header_mutations_wins=message.most_specific_header_mutations_wins,
        validate_clusters=view.wrapped("validate_clusters", None),
    )


def _refuse_duplicate_domains(view: View, virtual_hosts: tuple[VirtualHost, ...]) -> None:
    owners: dict[str, str] = {}
    for host, host_view in zip(virtual_hosts, view.each("virtual_hosts"), strict=True):
        for index, domain in enumerate(host.domains):
            if domain.lower() in owners:
                reason = f"only one virtual host may have {domain!r}; {owners[domain.lower()]!r} has it too"
                raise host_view.error(reason, f"domains[{index}]")
            owners[domain.lower()] = host.name


def _virtual_host(view: View, max_body_bytes: int) -> VirtualHost:
    message = view.message
    for index, domain in enumerate(message.domains):
        if not domain:
            raise view.error("may not be empty", f"domains[{index}]")
        if "*" in domain.strip("*") or domain.count("*") > 1:
            raise view.error(f"{domain!r}: a wildcard stands first or last, once", f"domains[{index}]")
    return VirtualHost(
        name=message.name,
        domains=tuple(message.domains),
        routes=tuple(_route(route, view, max_body_bytes) for route in view.each("routes")),
        headers=decode_header_operations(view),
        retry_policy=_retry_policy(view.find("retry_policy")),
        include_request_attempt_count=message.include_request_attempt_count,
        per_filter_config=decode_per_filter_config(view),
    )


def _route(view: View, virtual_host: View, max_body_bytes: int) -> Route:
    action: ForwardAction | RedirectAction | DirectResponseAction
    kind = view.which("action")
    match = _route_match(view.get("match"))
    if kind == "route":
        action = _forward(view.get("route"), _replay_limit_bytes(view, virtual_host))
    elif kind == "redirect":
        action = _redirect(view.get("redirect"))
    else:
        action = _direct_response(view.get("direct_response"), max_body_bytes)
    return Route(
        name=view.message.name,
        match=match,
        action=action,
        headers=decode_header_operations(view),
        per_filter_config=decode_per_filter_config(view),
    )


def _route_match(view: View) -> RouteMatch:
    specifier = view.which("path_specifier")
    path = ""
    if specifier == "safe_regex":
        kind, path = PathMatchKind.REGEX, decode_regex(view.get("safe_regex"))
    elif specifier == "connect_matcher":
        kind = PathMatchKind.CONNECT
    else:
        kind, path = _PATH_KINDS[specifier], getattr(view.message, specifier)
    return RouteMatch(
        path_kind=kind,
        path=path,
        case_sensitive=view.wrapped("case_sensitive", True),
        headers=tuple(decode_header_match(header) for header in view.each("headers")),
        query_parameters=tuple(
            decode_query_parameter_match(parameter) for parameter in view.each("query_parameters")
        ),
    )


def _replay_limit_bytes(route: View, virtual_host: View) -> int:
    """The newer field at either level comes before the older, ``per_request_buffer_limit_bytes``."""
    for field in ("request_body_buffer_limit", "per_request_buffer_limit_bytes"):
        for view in (route, virtual_host):
            if view.has(field):
                limit_bytes: int = view.wrapped(field, 0)
                return limit_bytes
    return DEFAULT_REPLAY_LIMIT_BYTES


def _forward(view: View, replay_limit_bytes: int) -> ForwardAction:
    message = view.message
    if message.prefix_rewrite and view.has("regex_rewrite"):
        raise view.error("only one of prefix_rewrite and regex_rewrite may be set")
    _check_max_stream_duration(view)
    upgrades, terminate_connect = _upgrades(view)
    rewrite = view.find("regex_rewrite")
    return ForwardAction(
        clusters=_clusters(view),
        cluster_header=message.cluster_header.lower(),
        cluster_not_found_status=_NOT_FOUND_STATUS[view.enum_name("cluster_not_found_response_code")],
        timeout_s=view.duration_s("timeout", 15.0),
        idle_timeout_s=view.duration_s("idle_timeout", 0.0) if view.has("idle_timeout") else None,
        retry_policy=_retry_policy(view.find("retry_policy")),
        prefix_rewrite=message.prefix_rewrite,
        regex_rewrite=decode_regex_rewrite(rewrite) if rewrite else None,
        host_rewrite=message.host_rewrite_literal,
        auto_host_rewrite=view.wrapped("auto_host_rewrite", False),
        append_x_forwarded_host=message.append_x_forwarded_host,
        upgrades=upgrades,
        terminate_connect=terminate_connect,
        metadata_match=metadata_strings(message.metadata_match, _LB),
        replay_limit_bytes=replay_limit_bytes,
    )


def _check_max_stream_duration(view: View) -> None:
    limit = view.get("max_stream_duration")
    if limit.duration_s("max_stream_duration", 0.0):
        raise limit.error("only 0s, no limit, is supported", "max_stream_duration")


def _clusters(view: View) -> tuple[WeightedCluster, ...]:
    specifier = view.which("cluster_specifier")
    if specifier == "cluster":
        return (WeightedCluster(name=view.message.cluster),)
    if specifier == "weighted_clusters":
        return _weighted_clusters(view.get("weighted_clusters"))
    return ()  # by a header


def _weighted_clusters(view: View) -> tuple[WeightedCluster, ...]:
    clusters = tuple(
        WeightedCluster(
            name=cluster.message.name or _no_name(cluster),
            weight=cluster.wrapped("weight", 0),
            headers=decode_header_operations(cluster),
            metadata_match=metadata_strings(cluster.message.metadata_match, _LB),
            host_rewrite=cluster.message.host_rewrite_literal,
            per_filter_config=decode_per_filter_config(cluster),
        )
        for cluster in view.each("clusters")
    )
    total = check_weights(view, [cluster.weight for cluster in clusters])
    if view.has("total_weight") and view.message.total_weight.value != total:
        stated = view.message.total_weight.value
        raise view.error(f"is {stated}, but the weights sum to {total}", "total_weight")
    return clusters


def _no_name(cluster: View) -> str:
    raise cluster.error("may not be empty", "name")


def check_weights(view: View, weights: list[int]) -> int:
    """The sum, which Envoy wants above 0 and within 32 bits."""
    total = sum(weights)
    if not 0 < total <= _MAX_UINT32:
        raise view.error(
            f"the weights sum to {total}, but must sum to 1 or more, up to {_MAX_UINT32}", "clusters"
        )
    return total


def _upgrades(view: View) -> tuple[Mapping[str, bool], bool]:
    """Whether the route allows an upgrade, for each that it speaks of, and whether a CONNECT ends here."""
    allowed: dict[str, bool] = {}
    terminate_connect = False
    for config in view.each("upgrade_configs"):
        upgrade = config.message.upgrade_type.lower()
        if upgrade in allowed:
            raise config.error(f"{upgrade!r} is configured twice", "upgrade_type")
        if config.has("connect_config"):
            if upgrade != "connect":
                raise config.error("belongs to the upgrade type CONNECT alone", "connect_config")
            terminate_connect = True
        allowed[upgrade] = config.wrapped("enabled", True)
    return allowed, terminate_connect


def _retry_policy(view: View | None) -> RetryPolicy | None:
    if view is None:
        return None
    message = view.message
    base_s, max_s = _back_off(view)
    return RetryPolicy(
        retry_on=_retry_on(view),
        num_retries=view.wrapped("num_retries", 1),
        per_try_timeout_s=view.duration_s("per_try_timeout", 0.0),
        retriable_status_codes=frozenset(message.retriable_status_codes),
        retriable_headers=tuple(decode_header_match(header) for header in view.each("retriable_headers")),
        back_off_base_interval_s=base_s,
        back_off_max_interval_s=max_s,
        previous_hosts=_previous_hosts(view),
        host_selection_max_attempts=message.host_selection_retry_max_attempts or 1,
    )


def _retry_on(view: View) -> frozenset[str]:
    """Envoy drops names that it does not know; here they are refused, for they were meant to do something.
    A status code in the list is Istio's short form, which its control plane resolves."""
    names = frozenset(name.strip() for name in view.message.retry_on.split(",") if name.strip())
    if unknown := names - _RETRY_ON:
        raise view.error(f"{', '.join(sorted(unknown))}: no such condition", "retry_on")
    return names


def _back_off(view: View) -> tuple[float, float]:
    """``RetryBackOff``: 25 ms, and ten times the base interval at most."""
    back_off = view.find("retry_back_off")
    if back_off is None:
        return 0.025, 0.25
    base_s = back_off.duration_s("base_interval", 0.025)
    max_s = back_off.duration_s("max_interval", 10 * base_s)
    if max_s < base_s:
        raise back_off.error("must be greater than or equal to base_interval", "max_interval")
    return base_s, max_s


def _previous_hosts(view: View) -> bool:
    for predicate in view.each("retry_host_predicate"):
        if predicate.has("typed_config"):
            predicate.unpack("typed_config", _PREVIOUS_HOSTS)
        elif predicate.message.name != "envoy.retry_host_predicates.previous_hosts":
            raise predicate.error(f"{predicate.message.name} is not supported", "name")
    return bool(view.message.retry_host_predicate)


def _redirect(view: View) -> RedirectAction:
    message = view.message
    rewrite = view.find("regex_rewrite")
    return RedirectAction(
        status=_REDIRECT_STATUS[view.enum_name("response_code")],
        scheme=message.scheme_redirect,
        https_redirect=message.https_redirect,
        host=message.host_redirect,
        port=message.port_redirect,
        path=message.path_redirect,
        prefix_rewrite=message.prefix_rewrite,
        regex_rewrite=decode_regex_rewrite(rewrite) if rewrite else None,
        strip_query=message.strip_query,
    )


def _direct_response(view: View, max_body_bytes: int) -> DirectResponseAction:
    body = view.get("body")
    if body.which("specifier") == "filename":
        raise body.error("is not supported here; use inline_string", "filename")
    content = body.message.inline_string.encode() or body.message.inline_bytes
    if len(content) > max_body_bytes:
        raise body.error(
            f"has {len(content)} bytes, more than max_direct_response_body_size_bytes, {max_body_bytes}"
        )
    return DirectResponseAction(status=view.message.status, body=content)
