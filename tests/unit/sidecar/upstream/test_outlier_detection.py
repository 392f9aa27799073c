from __future__ import annotations

from fractions import Fraction
from math import floor
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.cluster import OutlierDetection
from sidecar.observability.stats import ClusterStats
from sidecar.upstream.outlier_detection import HostMonitor, OutlierDetector


class Scene:
    """A detector, the records of its hosts, and a clock. All hosts may be ejected by default."""

    def __init__(self, hosts: int = 4, **config: object) -> None:
        self.stats = ClusterStats()
        config.setdefault("max_ejection_percent", 100)
        self.detector = OutlierDetector(OutlierDetection(**config), self.stats, Random(1))  # type: ignore[arg-type]
        self.hosts = [HostMonitor() for _ in range(hosts)]
        self.detector.host_count = hosts
        self.now_s = 1000.0

    def answer(self, host: int, *statuses: int) -> None:
        for status in statuses:
            if status < 500:
                self.detector.success(self.hosts[host])
            else:
                self.detector.server_error(self.hosts[host], status, self.now_s)

    def fail(self, host: int, times: int) -> None:
        for _ in range(times):
            self.detector.local_origin_failure(self.hosts[host], 503, self.now_s)

    def ejected(self) -> list[int]:
        return [index for index, host in enumerate(self.hosts) if host.ejected]

    def tick_after(self, seconds: float) -> bool:
        self.now_s += seconds
        changed = [self.detector.tick(host, self.now_s) for host in self.hosts]
        return any(changed)


def test_consecutive_5xx_eject_at_the_threshold() -> None:
    scene = Scene(consecutive_5xx=3)
    scene.answer(0, 500, 500)
    assert scene.ejected() == []
    scene.answer(0, 500)
    assert scene.ejected() == [0]
    assert scene.stats.outlier_detection__ejections_active == 1
    assert scene.stats.outlier_detection__ejections_enforced_consecutive_5xx == 1
    assert scene.stats.outlier_detection__ejections_enforced_total == 1


def test_a_response_below_500_resets_the_count() -> None:
    scene = Scene(consecutive_5xx=3)
    scene.answer(0, 500, 500, 404, 500, 500)
    assert scene.ejected() == []


def test_gateway_failures_are_their_own_kind() -> None:
    scene = Scene(
        consecutive_5xx=100, consecutive_gateway_failure=2, enforcing_consecutive_gateway_failure=100
    )
    scene.answer(0, 503, 500, 503)
    assert scene.ejected() == []
    scene.answer(0, 504)
    assert scene.ejected() == [0]


def test_a_detection_that_is_not_enforced_is_only_counted() -> None:
    scene = Scene(consecutive_5xx=2, enforcing_consecutive_5xx=0)
    scene.answer(0, 500, 500)
    assert scene.ejected() == []
    assert scene.stats.outlier_detection__ejections_detected_consecutive_5xx == 1


def test_local_failures_count_as_5xx_unless_they_are_split() -> None:
    together = Scene(consecutive_5xx=3)
    together.answer(0, 500)
    together.fail(0, 2)
    assert together.ejected() == [0]
    split = Scene(
        consecutive_5xx=3, consecutive_local_origin_failure=2, split_external_local_origin_errors=True
    )
    split.answer(0, 500, 500)
    split.fail(0, 1)
    assert split.ejected() == []
    split.fail(0, 1)
    assert split.ejected() == [0]
    assert split.stats.outlier_detection__ejections_enforced_consecutive_local_origin_failure == 1


def test_an_answer_ends_a_row_of_split_local_failures() -> None:
    scene = Scene(consecutive_local_origin_failure=2, split_external_local_origin_errors=True)
    scene.fail(0, 1)
    scene.answer(0, 500)
    scene.fail(0, 1)
    assert scene.ejected() == []


@pytest.mark.parametrize("hosts", range(1, 25))
@pytest.mark.parametrize("one_always", [False, True])
def test_as_many_hosts_are_ejected_as_the_percentage_covers_wholly(hosts: int, one_always: bool) -> None:
    """All fail once in turn, at every percentage."""
    for percent in range(101):
        scene = Scene(
            hosts, consecutive_5xx=1, max_ejection_percent=percent, always_eject_one_host=one_always
        )
        for host in range(hosts):
            scene.answer(host, 500)
        expected = max(floor(Fraction(percent, 100) * hosts), int(one_always))
        assert scene.ejected() == list(range(expected)), f"{percent}% of {hosts}"
        stats = scene.stats
        assert stats.outlier_detection__ejections_active == expected
        assert stats.outlier_detection__ejections_enforced_total == expected
        assert stats.outlier_detection__ejections_total == expected
        assert stats.outlier_detection__ejections_overflow == hosts - expected
        assert stats.outlier_detection__ejections_detected_consecutive_5xx == hosts
        assert stats.outlier_detection__ejections_consecutive_5xx == hosts


def test_the_only_host_is_never_ejected_at_the_default_percentage() -> None:
    scene = Scene(1, consecutive_5xx=3, max_ejection_percent=OutlierDetection().max_ejection_percent)
    scene.answer(0, *(500,) * 10)
    assert scene.ejected() == []
    assert scene.stats.outlier_detection__ejections_overflow == 3


def test_gateway_and_local_failures_overflow_as_well() -> None:
    scene = Scene(
        consecutive_gateway_failure=2,
        enforcing_consecutive_gateway_failure=100,
        consecutive_local_origin_failure=2,
        split_external_local_origin_errors=True,
        max_ejection_percent=10,
    )
    scene.answer(0, 503, 503)
    scene.fail(1, 2)
    assert scene.ejected() == []
    assert scene.stats.outlier_detection__ejections_overflow == 2
    assert scene.stats.outlier_detection__ejections_detected_consecutive_gateway_failure == 1
    assert scene.stats.outlier_detection__ejections_detected_consecutive_local_origin_failure == 1


def test_a_detection_that_is_not_enforced_does_not_count_as_ejected() -> None:
    """Envoy decides first whether the share allows it: a detection over the share is an overflow."""
    scene = Scene(consecutive_5xx=1, enforcing_consecutive_5xx=0, max_ejection_percent=25)
    scene.answer(0, 500)
    scene.answer(1, 500)
    assert scene.stats.outlier_detection__ejections_overflow == 0
    assert scene.stats.outlier_detection__ejections_total == 2


def test_the_share_follows_the_number_of_hosts() -> None:
    scene = Scene(hosts=4, consecutive_5xx=1, max_ejection_percent=30)
    scene.answer(0, 500)
    scene.answer(1, 500)
    assert scene.ejected() == [0]
    scene.detector.host_count = 7
    scene.answer(1, 500)
    assert scene.ejected() == [0, 1]


def test_a_host_that_comes_back_makes_room_for_another() -> None:
    scene = Scene(hosts=2, consecutive_5xx=1, max_ejection_percent=0, always_eject_one_host=True)
    scene.answer(0, 500)
    scene.answer(1, 500)
    assert scene.ejected() == [0]
    scene.tick_after(30)
    scene.answer(1, 500)
    assert scene.ejected() == [1]


def test_ejections_grow_with_each_and_have_a_maximum() -> None:
    scene = Scene(consecutive_5xx=1, base_ejection_time_s=30, max_ejection_time_s=70)
    for expected_s in (30, 60, 70, 70):
        scene.answer(0, 500)
        assert not scene.tick_after(expected_s - 1)
        assert scene.ejected() == [0]
        assert scene.tick_after(1)
        assert scene.ejected() == []
    assert scene.hosts[0].ejection_count == 4
    assert scene.stats.outlier_detection__ejections_active == 0


def test_the_longest_ejections_are_forgiven_an_interval_later() -> None:
    """Envoy's count grows while the time that it stands for is below the maximum plus one base time."""
    scene = Scene(consecutive_5xx=1, base_ejection_time_s=30, max_ejection_time_s=70)
    for _ in range(6):
        scene.answer(0, 500)
        scene.tick_after(70)
    assert scene.hosts[0].ejection_multiplier == 4


def test_ejections_become_shorter_while_a_host_is_healthy() -> None:
    scene = Scene(consecutive_5xx=1, base_ejection_time_s=30)
    scene.answer(0, 500)
    scene.tick_after(30)
    scene.tick_after(10)  # well for an interval
    scene.answer(0, 500)
    assert scene.tick_after(30)


def test_a_host_that_comes_back_has_no_failures_on_record() -> None:
    scene = Scene(consecutive_5xx=2)
    scene.answer(0, 500, 500, 500)
    scene.tick_after(30)
    scene.answer(0, 500)
    assert scene.ejected() == []


def test_a_host_that_leaves_makes_room_for_another_ejection() -> None:
    scene = Scene(hosts=4, consecutive_5xx=1, max_ejection_percent=25)
    scene.answer(0, 500)
    scene.detector.forget(scene.hosts[0])
    scene.answer(1, 500)
    assert scene.ejected() == [0, 1]
    assert scene.stats.outlier_detection__ejections_active == 1


STEPS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([200, 404, 500, 503]), st.integers(0, 40)))


@given(STEPS, st.sampled_from([0, 10, 40, 100]))
def test_never_more_are_ejected_than_allowed(steps: list[tuple[int, int, int]], percent: int) -> None:
    scene = Scene(hosts=5, consecutive_5xx=2, max_ejection_percent=percent)
    for host, status, wait_s in steps:
        scene.answer(host, status)
        assert len(scene.ejected()) == scene.detector.ejected_count
        assert len(scene.ejected()) <= 5 * percent // 100
        scene.tick_after(wait_s)
