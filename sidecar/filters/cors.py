"""``envoy.filters.http.cors``: answers preflights, and tells browsers which origins may read a response.

Source: ``envoy.extensions.filters.http.cors.v3``, https://fetch.spec.whatwg.org/#http-cors-protocol. The
policies are those of the route's levels; an attribute that the most specific one does not set is the next
one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sidecar.config.http_filters import CorsConfig, CorsPolicy
from sidecar.filters.chain import FilterContext, FilterKind
from sidecar.http.headers import Headers, get_header
from sidecar.http.message import Request, Response, Service
from sidecar.observability.stats import Counters
from sidecar.router.resolution import ResolvedRoute
from sidecar.router.string_match import compile_string_match

_ORIGIN: Final = b"origin"
_REQUEST_METHOD: Final = b"access-control-request-method"
_REQUEST_HEADERS: Final = b"access-control-request-headers"
_REQUEST_PRIVATE_NETWORK: Final = b"access-control-request-private-network"
_ALLOW_ORIGIN: Final = b"access-control-allow-origin"
_ALLOW_CREDENTIALS: Final = b"access-control-allow-credentials"
_ALLOW_METHODS: Final = b"access-control-allow-methods"
_ALLOW_HEADERS: Final = b"access-control-allow-headers"
_ALLOW_PRIVATE_NETWORK: Final = b"access-control-allow-private-network"
_EXPOSE_HEADERS: Final = b"access-control-expose-headers"
_MAX_AGE: Final = b"access-control-max-age"


@dataclass(slots=True, eq=False)
class CorsStats(Counters):
    """``http.<stat_prefix>.``"""

    cors__origin_invalid: int = 0
    cors__origin_valid: int = 0


_NO_ATTRIBUTES: Final = CorsPolicy()


class CompiledCorsPolicy:
    """The policy of one level of a route."""

    __slots__ = (
        "allow_credentials",
        "allow_headers",
        "allow_methods",
        "allow_origins",
        "allow_private_network_access",
        "enabled",
        "expose_headers",
        "forward_not_matching_preflights",
        "max_age",
        "shadow_enabled",
    )

    def __init__(self, policy: CorsPolicy) -> None:
        self.allow_origins = tuple(compile_string_match(match) for match in policy.allow_origins)
        self.allow_methods = policy.allow_methods.encode()
        self.allow_headers = policy.allow_headers.encode()
        self.expose_headers = policy.expose_headers.encode()
        self.max_age = policy.max_age.encode()
        self.allow_credentials = policy.allow_credentials
        self.allow_private_network_access = policy.allow_private_network_access
        self.forward_not_matching_preflights = policy.forward_not_matching_preflights
        self.enabled = policy.enabled
        self.shadow_enabled = policy.shadow_enabled

    def over(self, general: CompiledCorsPolicy) -> CompiledCorsPolicy:
        """This policy, with the attributes of the `general` one where it has none."""
        merged = CompiledCorsPolicy(_NO_ATTRIBUTES)
        merged.allow_origins = self.allow_origins or general.allow_origins
        merged.allow_methods = self.allow_methods or general.allow_methods
        merged.allow_headers = self.allow_headers or general.allow_headers
        merged.expose_headers = self.expose_headers or general.expose_headers
        merged.max_age = self.max_age or general.max_age
        merged.allow_credentials = _first(self.allow_credentials, general.allow_credentials)
        merged.allow_private_network_access = _first(
            self.allow_private_network_access, general.allow_private_network_access
        )
        merged.forward_not_matching_preflights = _first(
            self.forward_not_matching_preflights, general.forward_not_matching_preflights
        )
        merged.enabled = self.enabled
        merged.shadow_enabled = self.shadow_enabled
        return merged

    def allows(self, origin: bytes) -> bool:
        """Envoy: a matcher that accepts ``*`` accepts every origin."""
        return any(matches(b"*") or matches(origin) for matches in self.allow_origins)


def _first(specific: bool | None, general: bool | None) -> bool | None:
    return general if specific is None else specific


class CorsFilter:
    def __init__(self, config: CorsConfig, context: FilterContext) -> None:
        self._name = context.name
        self._rng = context.router_env.rng
        self._stats = context.counters(CorsStats)

    async def __call__(self, request: Request, proceed: Service) -> Response:
        origin = get_header(request.headers, _ORIGIN)
        policy = self._policy(request) if origin else None
        if not origin or policy is None:
            return await proceed(request)
        enabled = policy.enabled.takes(self._rng)
        if not enabled and not policy.shadow_enabled.takes(self._rng):
            return await proceed(request)
        allowed = policy.allows(origin)
        if allowed:
            self._stats.cors__origin_valid += 1
        else:
            self._stats.cors__origin_invalid += 1
        # By default a preflight that does not match is forwarded: the application may answer it.
        answers = enabled and (allowed or policy.forward_not_matching_preflights is False)
        if answers and request.method == b"OPTIONS" and get_header(request.headers, _REQUEST_METHOD):
            request.info.details = "cors_response"
            return _preflight_response(request.headers, policy, origin if allowed else b"")
        response = await proceed(request)
        if enabled and allowed:
            response.headers = _readable_by(origin, policy, response.headers)
        return response

    def _policy(self, request: Request) -> CompiledCorsPolicy | None:
        """The policies of the route's levels, merged. Envoy: a route that answers by itself has none."""
        resolved = request.route
        if not isinstance(resolved, ResolvedRoute) or resolved.destination is None:
            return None
        merged: CompiledCorsPolicy | None = None
        for policy in resolved.filter_configs(self._name):
            assert isinstance(policy, CompiledCorsPolicy)
            merged = policy if merged is None else merged.over(policy)
        return merged

    def close(self) -> None:
        pass


def _preflight_response(asked: Headers, policy: CompiledCorsPolicy, origin: bytes) -> Response:
    """`origin` is empty if it is not allowed: without its name in the response, a browser gives up."""
    headers: Headers = []
    if origin:
        headers.append((_ALLOW_ORIGIN, origin))
    if policy.allow_credentials:
        headers.append((_ALLOW_CREDENTIALS, b"true"))
    for name, allowed, asks in (
        (_ALLOW_METHODS, policy.allow_methods, _REQUEST_METHOD),
        (_ALLOW_HEADERS, policy.allow_headers, _REQUEST_HEADERS),
    ):
        if allowed == b"*":  # a browser that sends credentials does not understand it
            headers.append((name, get_header(asked, asks) or b""))
        elif allowed:
            headers.append((name, allowed))
    if policy.max_age:
        headers.append((_MAX_AGE, policy.max_age))
    if policy.allow_private_network_access and get_header(asked, _REQUEST_PRIVATE_NETWORK) == b"true":
        headers.append((_ALLOW_PRIVATE_NETWORK, b"true"))
    if origin and policy.expose_headers:
        headers.append((_EXPOSE_HEADERS, policy.expose_headers))
    return Response(200, headers)


def _readable_by(origin: bytes, policy: CompiledCorsPolicy, headers: Headers) -> Headers:
    """The headers, with those that let pages of the origin read the response."""
    own: Headers = [(_ALLOW_ORIGIN, origin)]
    if policy.allow_credentials:
        own.append((_ALLOW_CREDENTIALS, b"true"))
    if policy.expose_headers:
        own.append((_EXPOSE_HEADERS, policy.expose_headers))
    names = [name for name, _ in own]
    return [field for field in headers if field[0] not in names] + own


KIND = FilterKind(
    config=CorsConfig,
    make=CorsFilter,
    route_config=CorsPolicy,
    compile_route_config=CompiledCorsPolicy,
    acts_alone=lambda config: False,
)
