"""docs/supported.md matches the code.

After a change of what is supported, run this module with ``UPDATE_GOLDEN=1`` in the environment.
"""

from __future__ import annotations

import os

from docs.generate_supported import PAGE, istio_tables, render, xds_table


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text()
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(render(page))
    assert render(PAGE.read_text()) == PAGE.read_text(), "run it with UPDATE_GOLDEN=1"


def test_a_refused_field_is_listed_as_refused() -> None:
    (http_route,) = (row for row in istio_tables() if row.startswith("| `spec.http[]` |"))
    _, _, supported, refused, _, _ = http_route.split("|")
    assert "`rewrite`" in supported
    assert "`mirror`" in refused
    assert "`mirror`" not in supported


def test_a_field_without_effect_is_listed_with_its_reason() -> None:
    (listener,) = (row for row in xds_table() if row.startswith("| `envoy.config.listener.v3.Listener` |"))
    _, _, fields, without_effect, _ = listener.split("|")
    assert "`filter_chains`" in fields
    assert "`tcp_backlog_size`: the kernel's own limit applies" in without_effect
