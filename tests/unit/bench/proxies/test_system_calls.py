from __future__ import annotations

from tests.bench.proxies.system_calls import parse_total

SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000300           3       100           read
 40.00    0.000200           4        50         7 write
------ ----------- ----------- --------- --------- ----------------
100.00    0.000500           3       150         7 total
"""


def test_the_total_is_the_number_of_calls() -> None:
    assert parse_total(SUMMARY) == 150


def test_the_total_without_errors() -> None:
    assert parse_total(SUMMARY.replace("150         7 total", "150           total")) == 150
