from __future__ import annotations

import ast
from bisect import bisect_left
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sidecar
from sidecar.observability import stats as declared
from sidecar.observability.stats import Counters, Histogram, Stats


def test_the_same_prefix_goes_on_counting() -> None:
    stats = Stats()
    stats.cluster("a").upstream_rq_total += 1
    stats.cluster("a").upstream_rq_total += 1
    assert stats.cluster("a").upstream_rq_total == 2
    stats.forget_cluster("a")
    assert stats.cluster("a").upstream_rq_total == 0


@given(st.lists(st.floats(0, 4_000_000), min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_exact_one(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    exact = sorted(values)[max(ceil(share * len(values)), 1) - 1]
    bucket = bisect_left(histogram.buckets, exact)
    lower = histogram.buckets[bucket - 1] if bucket else 0
    upper = histogram.buckets[min(bucket, len(histogram.buckets) - 1)]
    assert lower <= histogram.quantile(share) <= upper


def test_counters_of_removed_listeners_are_dropped_and_those_of_clusters_stay() -> None:
    stats = Stats()
    kept = stats.http("web")
    stats.tcp("db"), stats.listener("10.0.0.1_80"), stats.cluster("c")
    stats.keep_listeners({"http.web"})
    assert {prefix for prefix, _ in stats.sets()} == {"http.web", "cluster.c"}
    assert stats.http("web") is kept


def written_names() -> Iterator[str]:
    """Attributes that some module of the sidecar adds to, assigns or records in, and the strings that may be
    names of such; what a formatted string begins with ends in ``*``."""
    for path in Path(sidecar.__file__).parent.rglob("*.py"):
        if path == Path(declared.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.AugAssign(target=ast.Attribute(attr=name)) | ast.Constant(value=str(name)):
                    yield name
                case ast.Assign(targets=targets):
                    yield from (target.attr for target in targets if isinstance(target, ast.Attribute))
                case ast.Call(func=ast.Attribute(value=ast.Attribute(attr=name), attr="record")):
                    yield name
                case ast.JoinedStr(values=[ast.Constant(value=str(start)), *_]):
                    yield f"{start}*"


@pytest.mark.parametrize("counters", Counters.__subclasses__())
def test_every_declared_stat_is_written(counters: type[Counters]) -> None:
    """A stat that is never written would be misleading. That the right event writes it is for the
    tests of those who write."""
    written = set(written_names())
    starts = tuple(name[:-1] for name in written if name.endswith("*") and "__" in name)
    silent = {name for name, _ in counters.names() if name not in written and not name.startswith(starts)}
    assert silent == set()
