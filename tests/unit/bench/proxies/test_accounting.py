from __future__ import annotations

import os

from tests.bench.proxies import accounting

ROLLUP = """\
5630a952b000-7ffd9e9c5000 ---p 00000000 00:00 0                          [rollup]
Rss:                1760 kB
Pss:                 213 kB
Shared_Clean:       1608 kB
Shared_Dirty:          0 kB
Private_Clean:        40 kB
Private_Dirty:       112 kB
"""


def test_the_parent_follows_a_command_with_spaces_and_parentheses() -> None:
    assert accounting.parse_parent("812 (a) (b c) S 7 812 812 0 -1 4194304") == 7


def test_cpu_time_is_the_first_field_of_schedstat() -> None:
    assert accounting.parse_schedstat("51406123 900 41\n") == 51406123


def test_both_kinds_of_context_switches_count() -> None:
    status = "Name:\tx\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n"
    assert accounting.parse_switches(status) == 42


def test_private_memory_is_without_clean_pages() -> None:
    memory = accounting.parse_smaps_rollup(ROLLUP)
    assert (memory.resident_bytes, memory.private_bytes) == (1760 * 1024, 112 * 1024)
    assert memory.proportional_bytes == 213 * 1024


def test_descendants_of_all_generations_are_found_once() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 13: 10, 20: 1}
    assert sorted(accounting.descendants([10, 11], parents)) == [10, 11, 12, 13]


def test_usage_since_an_earlier_one_is_the_difference() -> None:
    before = accounting.Usage(cpu_ns=100, switches=3)
    after = accounting.Usage(cpu_ns=350, switches=4)
    assert after.since(before) == accounting.Usage(cpu_ns=250, switches=1)


def test_this_process_has_used_cpu_and_memory() -> None:
    assert accounting.usage([os.getpid()]).cpu_ns > 0
    memory = accounting.memory([os.getpid()])
    assert memory.resident_bytes >= memory.proportional_bytes >= memory.private_bytes > 0
