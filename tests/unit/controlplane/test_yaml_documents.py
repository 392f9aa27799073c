from __future__ import annotations

import re
from contextlib import suppress

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.yaml_documents import YamlError, read_documents


def values(text: str) -> list[object]:
    return [document.value for document in read_documents(text)]


def fault(text: str) -> YamlError:
    with pytest.raises(YamlError) as caught:
        list(read_documents(text))
    return caught.value


def test_documents_know_their_first_line_and_empty_ones_are_left_out() -> None:
    documents = list(read_documents("# nothing\n---\n---\na: 1\n---\n\nb: 2\n"))
    assert [(each.line, each.value) for each in documents] == [(4, {"a": 1}), (7, {"b": 2})]


def test_scalars_have_jsons_types() -> None:
    text = "[~, null, yes, Off, 7, 0x1f, 017, 0o, 1_000, 1.5, .inf, text, 'on', 2020-01-01, 9080:80, =]"
    numbers = [7, 31, 15, "0o", 1000, 1.5, float("inf")]
    strings = ["text", "on", "2020-01-01", "9080:80", "="]
    assert values(text) == [[None, None, True, False, *numbers, *strings]]


def test_keys_are_always_strings() -> None:
    assert values("on: 1\n8080: 2\n~: 3\n") == [{"on": 1, "8080": 2, "~": 3}]


def test_aliases_are_followed() -> None:
    assert values("a: &a {x: 1}\nb: *a\nc: [*a, &t text, *t]\n") == [
        {"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, "text", "text"]}
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: [\n", 3, 1, "did not find expected node content"),
        ("a: b: c", 1, 5, "mapping values are not allowed"),
        ("a:\n\t- 1", 2, 1, "cannot start any token"),
        ("a: 'unclosed", 1, 13, "end of stream"),
        ("é: 1\na: \x00", 2, 4, "control characters are not allowed"),
        ("a: 1\nb: 2\na: 3", 3, 1, "duplicate key 'a'"),
        ("a: *nobody", 1, 4, "undefined or recursive alias *nobody"),
        ("a: &a [*a]", 1, 8, "undefined or recursive alias *a"),
        ("a: !!binary aGk=", 1, 4, "the tag tag:yaml.org,2002:binary is not supported"),
        ("a: !!python/object:os.system {}", 1, 4, "is not supported"),
        ("a: !!int seven", 1, 4, "'seven' is not a valid int"),
        (f"a: {'9' * 5000}", 1, 4, "is not a valid int"),
        ("? [1]\n: 2", 1, 3, "a key must be a string"),
        ("a: &a {}\nb: {<<: *a}", 2, 5, "merge keys (<<) are not supported"),
        ("[" * 200, 1, 101, "nested more than 100 levels deep"),
        ("- " * 200, 1, 201, "nested more than 100 levels deep"),
    ],
)
def test_an_error_has_its_line_and_column(text: str, line: int, column: int, words: str) -> None:
    error = fault(text)
    assert words in error.reason
    assert (error.line, error.column) == (line, column)


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000])
def test_deep_nesting_is_rejected(text: str) -> None:
    """Since 6.0.4, PyYAML has its own limit, which its scanner reaches before it returns the first event."""
    assert re.search("nested more than 100 levels deep|exceeded maximum nesting depth", fault(text).reason)


def test_a_billion_laughs_document_is_rejected() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    assert "more than 1000000 values" in fault("\n".join(lines)).reason


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200)
@given(json_values.filter(lambda value: value is not None))
def test_a_dumped_document_is_read_back(value: object) -> None:
    text = yaml.safe_dump(value)
    if "<<" not in text:
        assert values(text) == [value]


@settings(max_examples=300)
@given(st.one_of(st.text(), st.text(alphabet="ab: \n-[]{}&*!'\"?,#|>%@`\t<~10", max_size=40)))
def test_no_text_raises_anything_but_a_yaml_error(text: str) -> None:
    with suppress(YamlError):
        list(read_documents(text))
