from __future__ import annotations

import pytest

from tests.bench.machine import parse_cpu_ticks, parse_model, parse_version, stolen_share, warnings_of


@pytest.mark.parametrize(
    ("load", "steal", "words"),
    [(0.1, 0.0, []), (3.0, 0.0, ["load average 3.0"]), (3.0, 0.1, ["load average", "10%"])],
)
def test_a_busy_machine_is_warned_of(load: float, steal: float, words: list[str]) -> None:
    warnings = warnings_of(load, steal)
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


def test_the_stolen_share_is_of_all_time_between() -> None:
    before = parse_cpu_ticks("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3")
    after = parse_cpu_ticks("cpu  130 0 110 850 0 0 0 10 7 0\ncpu0 1 2 3")
    assert stolen_share(before, after) == pytest.approx(0.1)


def test_no_time_has_no_stolen_share() -> None:
    ticks = parse_cpu_ticks("cpu  1 1 1 1 1 1 1 1 0 0")
    assert stolen_share(ticks, ticks) == 0.0


def test_the_processor_and_the_version_of_envoy_are_named() -> None:
    assert parse_model("processor: 0\nmodel name\t: AMD EPYC\nmodel name\t: AMD EPYC\n") == "AMD EPYC"
    assert parse_model("") == "unknown processor"
    text = "/tmp/x/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL"
    assert parse_version(text) == "1.40.0"
