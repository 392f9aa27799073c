from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from controlplane.kinds.registry import KINDS
from controlplane.resources.base import (
    AtLeastOne,
    Duration,
    DurationOrZero,
    HeaderName,
    IpRange,
    Message,
    NotSupportedYet,
    Percent,
    PortNumber,
    StringMatch,
    ValueMatch,
)
from controlplane.resources.status import Status
from controlplane.resources.structural_schema import NOT_SUPPORTED_YET, Schema, structural_schema

MODELS = [*(kind.spec for kind in KINDS.values() if not kind.is_core), Status]


class Inner(Message):
    """``Inner``: what ``max_weight``
    is for."""

    max_weight: Percent = 7


class Outer(Message):
    inner: Inner | None = None
    timeout: DurationOrZero | None = None
    ports: tuple[PortNumber, ...] = ()
    by_name: dict[HeaderName, Inner] = Field(default_factory=dict)
    later: NotSupportedYet = None
    name: str
    addresses: Annotated[tuple[IpRange, ...], AtLeastOne] = ()


def properties(model: type[Message]) -> Schema:
    found: Schema = structural_schema(model)["properties"]
    return found


def nodes(schema: Schema) -> Iterator[Schema]:
    yield schema
    for child in schema.get("properties", {}).values():
        yield from nodes(child)
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from nodes(schema[keyword])


def test_a_message_is_an_object_with_the_names_that_documents_use() -> None:
    schema = structural_schema(Outer)
    assert schema["type"] == "object"
    assert list(schema["properties"]) == ["inner", "timeout", "ports", "byName", "later", "name", "addresses"]
    assert schema["required"] == ["name"]


def test_references_to_inner_messages_are_replaced_without_null_or_default() -> None:
    inner = {
        "description": "`Inner`: what `maxWeight` is for.",
        "type": "object",
        "properties": {"maxWeight": {"type": "integer", "minimum": 0, "maximum": 100}},
    }
    assert properties(Outer)["inner"] == inner
    assert properties(Outer)["byName"] == {"type": "object", "additionalProperties": inner}


def test_items_of_lists_have_their_limits() -> None:
    ports = {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 65535}}
    assert properties(Outer)["ports"] == ports
    assert properties(Outer)["addresses"]["minItems"] == 1


def test_a_field_that_is_not_supported_yet_keeps_its_value() -> None:
    assert properties(Outer)["later"] == NOT_SUPPORTED_YET


def test_a_keyword_that_a_structural_schema_lacks_is_noticed() -> None:
    class Multiple(Message):
        number: int = Field(multiple_of=3)

    with pytest.raises(AssertionError, match="multipleOf"):
        structural_schema(Multiple)


@pytest.mark.parametrize(
    "text", ["10s", "1.5s", "100ms", "1h30m", "1us", "2ns", "10", "s", "1 s", "-1s", "1d", "1s\n", "", "1.s"]
)
def test_the_schema_of_a_duration_and_its_parser_agree(text: str) -> None:
    schema = TypeAdapter(DurationOrZero).json_schema()
    # As the API server's regular expressions do, `$` takes the end of the text alone.
    fits = re.search(schema["pattern"].replace("$", r"\Z"), text) is not None
    try:
        TypeAdapter(DurationOrZero).validate_python(text)
    except ValidationError:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize("duration", [Duration, DurationOrZero])
def test_a_duration_is_a_string_with_an_example(duration: Any) -> None:
    schema = TypeAdapter(duration).json_schema()
    assert schema["type"] == "string"
    assert "1h30m" in schema["description"]


def test_of_a_string_match_exactly_one_field_is_asked_for() -> None:
    one = [{"required": [name]} for name in ("exact", "prefix", "regex")]
    assert structural_schema(StringMatch)["oneOf"] == one
    assert structural_schema(ValueMatch)["oneOf"] == [{"not": {"anyOf": one}}, *one]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_kind_has_a_type_at_every_node(model: type[Message]) -> None:
    for node in nodes(structural_schema(model)):
        assert node == NOT_SUPPORTED_YET or "type" in node


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_message_of_every_kind_is_described(model: type[Message]) -> None:
    for node in nodes(structural_schema(model)):
        if "properties" in node:
            assert node["description"], node
            assert "``" not in node["description"]
