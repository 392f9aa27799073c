"""``RouteConfiguration``, its virtual hosts and routes. Defaults are those of ``envoy.config.route.v3``."""

from __future__ import annotations

from typing import Final

from sidecar.config.route import (
    DirectResponseAction,
    ForwardAction,
    PathMatchKind,
    RedirectAction,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from sidecar.xds.decode.http_filters.registry import decode_per_filter_config
from sidecar.xds.decode.matchers import (
    decode_header_match,
    decode_query_parameter_match,
    decode_regex,
    decode_regex_rewrite,
)
from sidecar.xds.decode.retry_policy import decode_retry_policy
from sidecar.xds.decode.route_action import decode_forward_action, decode_replay_limit_bytes
from sidecar.xds.decode.support import NO_READER, STATISTICS_ONLY, SupportTable, support
from sidecar.xds.decode.tracing import decode_decorator, decode_route_tracing
from sidecar.xds.decode.values import HEADER_OPERATIONS, decode_header_operations
from sidecar.xds.decode.view import View

_MAX_DIRECT_RESPONSE_BODY_BYTES = 4096

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


_PACKAGE = "envoy.config.route.v3"

TABLE: Final[SupportTable] = {
    f"{_PACKAGE}.RouteConfiguration": support(
        "name virtual_hosts validate_clusters max_direct_response_body_size_bytes "
        f"ignore_port_in_host_matching most_specific_header_mutations_wins {HEADER_OPERATIONS}",
        metadata=NO_READER,
    ),
    f"{_PACKAGE}.VirtualHost": support(
        "name domains routes include_request_attempt_count retry_policy per_request_buffer_limit_bytes "
        f"request_body_buffer_limit typed_per_filter_config {HEADER_OPERATIONS}",
        virtual_clusters=STATISTICS_ONLY,
        metadata=NO_READER,
    ),
    f"{_PACKAGE}.Route": support(
        "name match route redirect direct_response per_request_buffer_limit_bytes request_body_buffer_limit "
        f"typed_per_filter_config decorator tracing {HEADER_OPERATIONS}",
        metadata=NO_READER,
        stat_prefix=STATISTICS_ONLY,
    ),
    f"{_PACKAGE}.RouteMatch": support(
        "prefix path safe_regex connect_matcher path_separated_prefix case_sensitive headers query_parameters"
    ),
    f"{_PACKAGE}.RouteMatch.ConnectMatcher": support(),
    f"{_PACKAGE}.RedirectAction": support(
        "https_redirect scheme_redirect host_redirect port_redirect path_redirect prefix_rewrite "
        "regex_rewrite response_code strip_query"
    ),
    f"{_PACKAGE}.DirectResponseAction": support("status body"),
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
                reason = f"{domain!r} is a duplicate: the virtual host {owners[domain.lower()]!r} has it too"
                raise host_view.error(reason, f"domains[{index}]")
            owners[domain.lower()] = host.name


def _virtual_host(view: View, max_body_bytes: int) -> VirtualHost:
    message = view.message
    for index, domain in enumerate(message.domains):
        if not domain:
            raise view.error("must not be empty", f"domains[{index}]")
        if "*" in domain.strip("*") or domain.count("*") > 1:
            raise view.error(
                f"{domain!r} is not valid: the only wildcard must be the first or the last character",
                f"domains[{index}]",
            )
    return VirtualHost(
        name=message.name,
        domains=tuple(message.domains),
        routes=tuple(_route(route, view, max_body_bytes) for route in view.each("routes")),
        headers=decode_header_operations(view),
        retry_policy=decode_retry_policy(view.find("retry_policy")),
        include_request_attempt_count=message.include_request_attempt_count,
        per_filter_config=decode_per_filter_config(view),
    )


def _route(view: View, virtual_host: View, max_body_bytes: int) -> Route:
    action: ForwardAction | RedirectAction | DirectResponseAction
    kind = view.which("action")
    match = _route_match(view.get("match"))
    if kind == "route":
        action = decode_forward_action(view.get("route"), decode_replay_limit_bytes(view, virtual_host))
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
        decorator=decode_decorator(view.find("decorator")),
        tracing=decode_route_tracing(view.find("tracing")),
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
        raise body.error("is not supported; use inline_string", "filename")
    content = body.message.inline_string.encode() or body.message.inline_bytes
    if len(content) > max_body_bytes:
        raise body.error(f"has {len(content)} bytes; max_direct_response_body_size_bytes is {max_body_bytes}")
    return DirectResponseAction(status=view.message.status, body=content)
