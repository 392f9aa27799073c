from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.router.domain_index import DomainIndex

INDEX = DomainIndex(
    [
        (domain, domain)
        for domain in (
            "exact.com",
            "exact.com:8080",
            "UPPER.com",
            "*.suffix.com",
            "*-bar.suffix.com",
            "prefix.*",
            "*",
        )
    ]
)


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"exact.com", "exact.com"),
        (b"EXACT.com", "exact.com"),
        (b"exact.com:8080", "exact.com:8080"),
        (b"exact.com:99", "*"),
        (b"upper.COM", "UPPER.com"),
        (b"a.suffix.com", "*.suffix.com"),
        (b"x-bar.suffix.com", "*-bar.suffix.com"),
        (b".suffix.com", "*"),  # the asterisk stands for something
        (b"suffix.com", "*"),
        (b"prefix.org", "prefix.*"),
        (b"prefix.", "*"),
        (b"prefix.suffix.com", "*.suffix.com"),  # suffixes come before prefixes
        (b"", "*"),
    ],
)
def test_the_most_specific_domain_wins(authority: bytes, expected: str) -> None:
    assert INDEX.find(authority) == expected


def test_without_a_default_an_unknown_authority_finds_nothing() -> None:
    assert DomainIndex([("a", 1)]).find(b"b") is None


def test_ports_are_ignored_where_that_is_asked_for() -> None:
    index = DomainIndex([("a.com", 1)], ignore_port=True)
    assert index.find(b"a.com:8080") == 1
    assert DomainIndex([("a.com", 1)]).find(b"a.com:8080") is None


@given(
    st.lists(st.text(alphabet="ab.", min_size=1, max_size=4), unique=True),
    st.text(alphabet="ab.", max_size=6),
)
def test_suffixes_agree_with_a_naive_search(suffixes: list[str], name: str) -> None:
    index = DomainIndex([("*" + suffix, suffix) for suffix in suffixes])
    fitting = [suffix for suffix in suffixes if name.endswith(suffix) and len(name) > len(suffix)]
    assert index.find(name.encode()) == max(fitting, key=len, default=None)
