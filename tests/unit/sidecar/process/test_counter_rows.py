from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.cluster import CircuitBreakers, RetryBudget
from sidecar.errors import ConfigError
from sidecar.process.counter_rows import assign_rows
from tests.support.clusters import static_cluster

MOST = 2**32 - 1
UNLIMITED = CircuitBreakers(
    max_connections=MOST, max_pending_requests=MOST, max_requests=MOST, max_retries=MOST
)


@given(st.lists(st.sets(st.sampled_from("abcdefgh")), max_size=6))
def test_no_two_clusters_have_a_row_at_the_same_time(snapshots: list[set[str]]) -> None:
    rows: dict[str, int] = {}
    for names in snapshots:
        assigned = assign_rows(rows, {name: static_cluster(name=name) for name in sorted(names)})
        assert assigned.keys() == names
        together = rows | assigned
        assert len(set(together.values())) == len(together), "workers take it one after another"
        assert all(assigned[name] == row for name, row in rows.items() if name in names)
        assert max(assigned.values(), default=0) < 16, "rows are used again"
        rows = assigned


@pytest.mark.parametrize(
    ("limits", "needs_row"),
    [
        (UNLIMITED, False),
        (replace(UNLIMITED, max_retries=3), True),
        (replace(UNLIMITED, retry_budget=RetryBudget()), True),
        (CircuitBreakers(), True),
    ],
)
def test_only_limits_need_a_row(limits: CircuitBreakers, needs_row: bool) -> None:
    cluster = static_cluster(name="a", circuit_breakers=limits)
    assert bool(assign_rows({}, {"a": cluster})) is needs_row


def test_more_clusters_than_rows_are_refused() -> None:
    two = {name: static_cluster(name=name) for name in "ab"}
    assert assign_rows({}, two, most=2) == {"a": 0, "b": 1}
    with pytest.raises(ConfigError, match="more than 1 clusters have limits"):
        assign_rows({}, two, most=1)
