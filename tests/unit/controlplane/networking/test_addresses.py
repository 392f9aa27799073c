from __future__ import annotations

import pytest

from controlplane.networking.addresses import split_authority


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reviews.example.com:9080", ("reviews.example.com", 9080)),
        ("[::1]:80", ("::1", 80)),
        ("reviews:²", ("reviews", None)),
        ("reviews:", ("reviews", None)),
        (":80", ("", 80)),
        ("reviews", ("", None)),
    ],
)
def test_an_authority_is_split_at_its_last_colon(text: str, expected: tuple[str, int | None]) -> None:
    assert split_authority(text) == expected
