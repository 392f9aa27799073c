from __future__ import annotations

import pytest

from sidecar.http.reason import reason


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (200, "OK"),
        (413, "Payload Too Large"),
        (414, "URI Too Long"),
        (416, "Range Not Satisfiable"),
        (422, "Unprocessable Entity"),
        (431, "Request Header Fields Too Large"),
        (599, "Unknown"),
    ],
)
def test_phrases_do_not_depend_on_the_version_of_python(status: int, phrase: str) -> None:
    assert reason(status) == phrase
