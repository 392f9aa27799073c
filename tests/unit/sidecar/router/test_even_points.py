from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from sidecar.router.even_points import EvenPoints


@given(st.integers())
def test_each_256_points_have_one_in_each_part_and_each_sixteen_one_in_each_sixteenth(seed: int) -> None:
    points = EvenPoints(Random(seed))
    for _ in range(2):
        drawn = [points.next() for _ in range(256)]
        assert sorted(int(point * 256) for point in drawn) == list(range(256))
        for start in range(0, 256, 16):
            assert sorted(int(point * 16) for point in drawn[start : start + 16]) == list(range(16))


def test_every_order_is_another() -> None:
    points = EvenPoints(Random(1))
    orders = {tuple(int(points.next() * 16) for _ in range(16)) for _ in range(100)}
    assert len(orders) == 100
