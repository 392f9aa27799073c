from __future__ import annotations

import pytest

from controlplane.model.hosts import HostIndex, export_scopes, exported_to, resolve_short_name
from controlplane.resources.hosts import covers


@pytest.mark.parametrize(
    ("host", "resolved"),
    [
        ("reviews", "reviews.books.svc.cluster.local"),
        ("reviews.books", "reviews.books"),
        ("api.example.com", "api.example.com"),
        ("*", "*"),
        ("*-v1", "*-v1"),
        ("::1", "::1"),
    ],
)
def test_only_a_name_without_dots_is_short(host: str, resolved: str) -> None:
    assert resolve_short_name(host, "books", "cluster.local") == resolved


def test_a_wildcard_covers_hosts_below_it_and_narrower_wildcards() -> None:
    assert covers("*.example.com", "a.example.com")
    assert covers("*.example.com", "*.b.example.com")
    assert not covers("*.example.com", "example.com")
    assert not covers("a.example.com", "*.example.com")


def test_the_most_specific_pattern_is_found() -> None:
    index = HostIndex([("*", 0), ("*.com", 1), ("*.example.com", 2), ("a.example.com", 3)])
    hosts = ("a.example.com", "b.example.com", "b.com", "b.org")
    assert [index.find(host) for host in hosts] == [3, 2, 1, 0]


@pytest.mark.parametrize(
    ("export_to", "seen_by"),
    [((), "abo"), (("*",), "abo"), ((".",), "o"), (("a",), "a"), (("a", "."), "ao"), (("~",), "")],
)
def test_export_to_names_who_sees(export_to: tuple[str, ...], seen_by: str) -> None:
    scopes = export_scopes(export_to, "o")
    for namespace in "abo":
        visible = exported_to(export_to, "o", namespace)
        assert visible == (namespace in seen_by)
        assert visible == bool(scopes & {"*", namespace})
