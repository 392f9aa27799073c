"""How many hosts are ejected when all of them fail: the share of hosts, and the one that may always go."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.interop.parity.cluster_pair import Proxy, both_proxies, static_cluster

_COUNTERS = (
    "outlier_detection.ejections_active",
    "outlier_detection.ejections_enforced_total",
    "outlier_detection.ejections_enforced_consecutive_5xx",
    "outlier_detection.ejections_total",
)
# How often something was detected depends on when Envoy's worker hears from its main thread: whether at all.
_WHETHER = (
    "outlier_detection.ejections_overflow",
    "outlier_detection.ejections_detected_consecutive_5xx",
    "outlier_detection.ejections_consecutive_5xx",
)


@dataclass(frozen=True, slots=True)
class Case:
    hosts: int
    percent: int | None
    """None: the default."""
    ejected: int
    one_always: bool = False

    @property
    def name(self) -> str:
        percent = "default" if self.percent is None else self.percent
        return f"of{self.hosts}_{percent}{'_one' if self.one_always else ''}"

    def cluster(self, port: int) -> dict[str, object]:
        detection: dict[str, object] = {
            "consecutive_5xx": 1,
            "enforcing_success_rate": 0,
            "base_ejection_time": "300s",
            "always_eject_one_host": self.one_always,
        }
        if self.percent is not None:
            detection["max_ejection_percent"] = self.percent
        return static_cluster(
            self.name,
            [(f"127.0.0.{number + 1}", port) for number in range(self.hosts)],
            outlier_detection=detection,
            common_lb_config={"healthy_panic_threshold": {"value": 0}},
        )


CASES = (
    Case(1, None, 0), Case(1, 0, 0), Case(1, 99, 0), Case(1, 100, 1), Case(2, None, 0), Case(2, 49, 0),
    Case(2, 50, 1), Case(2, 99, 1), Case(2, 100, 2), Case(3, 33, 0), Case(3, 34, 1), Case(3, 66, 1),
    Case(3, 67, 2), Case(7, 14, 0), Case(7, 15, 1), Case(9, None, 0), Case(10, None, 1), Case(10, 9, 0),
    Case(11, None, 1), Case(1, None, 1, one_always=True), Case(1, 0, 1, one_always=True),
    Case(2, 10, 1, one_always=True), Case(3, 67, 2, one_always=True), Case(4, 0, 1, one_always=True),
)  # fmt: skip


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Proxy]]:
    with socket.socket() as refusing:
        refusing.bind(("0.0.0.0", 0))  # and never listens
        clusters = [case.cluster(refusing.getsockname()[1]) for case in CASES]
        with both_proxies(tmp_path_factory.mktemp("ejections"), clusters) as pair:
            yield pair


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hosts_that_refuse_all_connections(proxies: tuple[Proxy, Proxy], case: Case) -> None:
    outcomes = []
    for proxy in proxies:
        for _ in range(3 * case.hosts):
            assert proxy.ask(case.name) == 503
        counters = proxy.counters(case.name, *_COUNTERS, *_WHETHER)
        outcomes.append({**counters, **{name: counters[name] > 0 for name in _WHETHER}})
    envoys, ours = outcomes
    assert envoys["outlier_detection.ejections_active"] == case.ejected
    assert ours == envoys
