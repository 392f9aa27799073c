from __future__ import annotations

import pytest

from sidecar.errors import BootstrapError
from sidecar.yaml_document import parse_document


@pytest.mark.parametrize("text", ['{"a": [1, 2.5, "x", true, null, {}]}', "a: [1, 2.5, x, true, null, {}]"])
def test_json_and_yaml_are_read_alike(text: str) -> None:
    assert parse_document(text.encode(), "file") == {"a": [1, 2.5, "x", True, None, {}]}


@pytest.mark.parametrize("text", ['{"a": 1,\n "b": 2,\n "a": 3}', "a: 1\nb: 2\na: 3"])
def test_duplicate_key_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(BootstrapError, match=r"^file: line 3, column [12]: duplicate key 'a'$"):
        parse_document(text.encode(), "file")


@pytest.mark.parametrize("text", ['{"a": {"b": 1, "b": 2}}', "[" * 100_000, '{"a": 1', "\xff", '["a"]', ""])
def test_invalid_document_is_refused(text: str) -> None:
    with pytest.raises(BootstrapError, match=r"^file: "):
        parse_document(text.encode("latin-1"), "file")


def test_constants_that_are_not_json_are_text() -> None:
    assert parse_document(b'{"a": NaN}', "file") == {"a": "NaN"}
