from __future__ import annotations

import pytest

from tests.bench.proxies.system_calls import parse_count


def test_the_value_of_the_event_is_the_count() -> None:
    output = "# a warning, with a comma\n144,,raw_syscalls:sys_enter,1612000,100.00,,\n"
    assert parse_count(output) == 144


@pytest.mark.parametrize("output", ["", "<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n"])
def test_an_event_that_was_not_counted_is_no_zero(output: str) -> None:
    assert parse_count(output) is None
