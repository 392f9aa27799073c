from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.http_filters import HeaderMutationConfig, Mutations, RemoveHeader
from sidecar.config.route import AppendAction, HeaderValue
from sidecar.errors import ConfigError
from tests.support.http_filters import HEADER_MUTATION, decoded_chain, http_filter

CONFIG = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config"


def decoded(**config: Any) -> object:
    return decoded_chain(http_filter("m", HEADER_MUTATION, **config))[0].config


def set_header(name: str, value: str, **option: Any) -> dict[str, Any]:
    return {"append": {"header": {"key": name, "value": value}, **option}}


def test_mutations_keep_their_order() -> None:
    found = decoded(
        mutations={
            "request_mutations": [
                set_header("X-A", "1", append_action="OVERWRITE_IF_EXISTS_OR_ADD"),
                {"remove": "X-A"},
                set_header("x-b", "100%%"),
            ],
            "response_mutations": [{"remove": "server"}],
        },
        most_specific_header_mutations_wins=True,
    )
    assert found == HeaderMutationConfig(
        mutations=Mutations(
            request=(
                HeaderValue(name=b"x-a", value=b"1", action=AppendAction.OVERWRITE_IF_EXISTS_OR_ADD),
                RemoveHeader(name=b"x-a"),
                HeaderValue(name=b"x-b", value=b"100%"),
            ),
            response=(RemoveHeader(name=b"server"),),
        ),
        most_specific_header_mutations_wins=True,
    )


def test_a_header_without_a_value_is_added_if_it_says_so() -> None:
    empty = [set_header("a", ""), set_header("b", "", keep_empty_value=True)]
    assert decoded(mutations={"response_mutations": empty}) == HeaderMutationConfig(
        mutations=Mutations(response=(HeaderValue(name=b"b", value=b""),))
    )


@pytest.mark.parametrize(
    ("mutations", "path", "reason"),
    [
        ({"request_mutations": [{}]}, "request_mutations[0]", "one of remove, append"),
        ({"request_mutations": [{"remove": ":path"}]}, "request_mutations[0].remove", "':path'"),
        ({"request_mutations": [{"remove": "a b"}]}, "request_mutations[0].remove", "header name"),
        (
            {"response_mutations": [set_header("Host", "x")]},
            "response_mutations[0].append.header.key",
            "'Host'",
        ),
        (
            {"request_mutations": [set_header("a", "%REQ(b)%")]},
            "request_mutations[0].append.header.value",
            "is not supported",
        ),
        (
            {"request_mutations": [{"remove_on_match": {"key_matcher": {"exact": "a"}}}]},
            "request_mutations[0].remove_on_match",
            "is not supported",
        ),
        ({"query_parameter_mutations": [{"remove": "a"}]}, "query_parameter_mutations", "is not supported"),
        ({"request_trailers_mutations": [{"remove": "a"}]}, "request_trailers_mutations", "is not supported"),
        (
            {"response_trailers_mutations": [{"remove": "a"}]},
            "response_trailers_mutations",
            "is not supported",
        ),
    ],
)
def test_a_mutation_that_is_not_supported_is_refused(
    mutations: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        decoded(mutations=mutations)
    assert caught.value.path == f"{CONFIG}.mutations.{path}"
