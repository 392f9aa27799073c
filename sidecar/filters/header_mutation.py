"""``envoy.filters.http.header_mutation``: sets and removes headers of requests and responses.

Source: ``envoy.extensions.filters.http.header_mutation.v3``. The filter's own mutations are applied first,
then those of all levels of the route. The route is not resolved again after
the mutations.
"""

from __future__ import annotations

from sidecar.config.http_filters import HeaderMutation, HeaderMutationConfig, Mutations, RemoveHeader
from sidecar.filters.chain import FilterContext, FilterKind
from sidecar.http.headers import CODEC_FIELDS, Headers
from sidecar.http.message import Request, Response, Service
from sidecar.router.header_operations import apply_header_value, warn_without_effect


class CompiledMutations:
    """The mutations of one level, without those of fields that only a codec writes."""

    __slots__ = ("request", "response")

    def __init__(self, mutations: Mutations) -> None:
        self.request = _effective(mutations.request)
        self.response = _effective(mutations.response)


def _effective(mutations: tuple[HeaderMutation, ...]) -> tuple[HeaderMutation, ...]:
    without_effect = CODEC_FIELDS.intersection(mutation.name for mutation in mutations)
    if without_effect:
        warn_without_effect(without_effect)
    return tuple(mutation for mutation in mutations if mutation.name not in without_effect)


def _apply(mutations: tuple[HeaderMutation, ...], headers: Headers) -> None:
    for mutation in mutations:
        if isinstance(mutation, RemoveHeader):
            headers[:] = [field for field in headers if field[0] != mutation.name]
        else:
            apply_header_value(headers, mutation)


class HeaderMutationFilter:
    def __init__(self, config: HeaderMutationConfig, context: FilterContext) -> None:
        self._name = context.name
        self._own = CompiledMutations(config.mutations)
        self._most_specific_wins = config.most_specific_header_mutations_wins

    async def __call__(self, request: Request, proceed: Service) -> Response:
        levels = self._levels(request)
        for level in levels:
            _apply(level.request, request.headers)
        response = await proceed(request)
        response.headers = list(response.headers)  # another filter may answer from a constant
        for level in levels:
            _apply(level.response, response.headers)
        return response

    def _levels(self, request: Request) -> list[CompiledMutations]:
        """In the order of their application: the last one wins."""
        levels = [self._own]
        if request.route is not None:
            configs = request.route.filter_configs(self._name)
            if self._most_specific_wins:
                configs = configs[::-1]
            levels += [config for config in configs if isinstance(config, CompiledMutations)]
        return levels

    def close(self) -> None:
        pass


KIND = FilterKind(
    config=HeaderMutationConfig,
    make=HeaderMutationFilter,
    route_config=Mutations,
    compile_route_config=CompiledMutations,
)
