"""``RouteAction.HashPolicy``: the parts of a request by which a hashing balancer chooses a host."""

from __future__ import annotations

from typing import Final

from sidecar.config.route import CookieHash, HashPolicy, HeaderHash, QueryParameterHash, SourceIpHash
from sidecar.xds.decode.matchers import decode_regex_rewrite
from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.view import View

_MESSAGE = "envoy.config.route.v3.RouteAction.HashPolicy"

TABLE: Final[SupportTable] = {
    _MESSAGE: support(
        kept="header cookie connection_properties query_parameter terminal",
        filter_state="no filter sets a state that can be hashed",
    ),
    f"{_MESSAGE}.Header": support(kept="header_name regex_rewrite"),
    f"{_MESSAGE}.Cookie": support(kept="name ttl path attributes"),
    f"{_MESSAGE}.CookieAttribute": support(kept="name value"),
    f"{_MESSAGE}.ConnectionProperties": support(kept="source_ip"),
    f"{_MESSAGE}.QueryParameter": support(kept="name"),
}


def decode_hash_policies(route_action: View) -> tuple[HashPolicy, ...]:
    decoded = (_hash_policy(policy) for policy in route_action.each("hash_policy"))
    return tuple(policy for policy in decoded if policy is not None)


def _hash_policy(view: View) -> HashPolicy | None:
    """None for a policy that never finds a value to hash."""
    kind = view.which("policy_specifier")
    terminal = view.message.terminal
    if kind == "header":
        return HashPolicy(source=_header(view.get(kind)), terminal=terminal)
    if kind == "cookie":
        return HashPolicy(source=_cookie(view.get(kind)), terminal=terminal)
    if kind == "query_parameter":
        name = view.get(kind).message.name
        return HashPolicy(source=QueryParameterHash(name=name), terminal=terminal)
    if kind == "connection_properties" and view.get(kind).message.source_ip:
        return HashPolicy(source=SourceIpHash(), terminal=terminal)
    return None


def _header(view: View) -> HeaderHash:
    rewrite = view.find("regex_rewrite")
    return HeaderHash(
        name=view.message.header_name.lower(),
        regex_rewrite=decode_regex_rewrite(rewrite) if rewrite else None,
    )


def _cookie(view: View) -> CookieHash:
    return CookieHash(
        name=view.message.name,
        ttl_s=int(view.duration_s("ttl", 0.0)) if view.has("ttl") else None,
        path=view.message.path,
        attributes=tuple((each.message.name, each.message.value) for each in view.each("attributes")),
    )
