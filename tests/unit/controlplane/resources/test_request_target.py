from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.resources.request_target import as_sent, never_sent


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/dé", "/d%C3%A9"),
        ("/日本/語", "/%E6%97%A5%E6%9C%AC/%E8%AA%9E"),
        ("/😀", "/%F0%9F%98%80"),
        ("/a b", "/a%20b"),
        ("/tab\t", "/tab%09"),
        ("/already%C3%A9", "/already%C3%A9"),
        ("/lower%c3%a9", "/lower%c3%a9"),
        ("/plain/~user/{id}|x?y#z", "/plain/~user/{id}|x?y#z"),
        ("", ""),
    ],
)
def test_characters_that_no_target_has_are_percent_encoded(written: str, sent: str) -> None:
    assert as_sent(written) == sent


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_visible_ascii_is_unchanged(text: str) -> None:
    sent = as_sent(text)
    assert all("!" <= character <= "~" for character in sent)
    assert as_sent(sent) == sent


def test_each_character_is_reported_once() -> None:
    assert never_sent("/dé/é b/a") == "é "
