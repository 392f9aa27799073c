from __future__ import annotations

from tests.bench.profile import Share, markdown, parse_report

REPORT = """\
# Overhead  Shared Object                              Symbol
# ........  .........................................  ............
    30.00%  [kernel.kallsyms]                          [k] tcp_sendmsg_locked
    20.50%  sidecar__mypyc.cpython-311-x86_64-linux-gnu.so  [.] CPyDef_codec___Codec___data_received
    10.00%  libpython3.11.so.1.0                       [.] _PyEval_EvalFrameDefault      -      -
     0.10%  loop.cpython-311-x86_64-linux-gnu.so       [.] memcpy
"""


def test_a_report_is_read_by_place_and_symbol() -> None:
    assert parse_report(REPORT) == [
        Share(percent=30.0, place="kernel", symbol="tcp_sendmsg_locked"),
        Share(percent=20.5, place="the compiled modules", symbol="CPyDef_codec___Codec___data_received"),
        Share(percent=10.0, place="libpython3.11", symbol="_PyEval_EvalFrameDefault"),
        Share(percent=0.1, place="uvloop", symbol="memcpy"),
    ]


def test_the_tables_have_microseconds_and_leave_out_what_is_small() -> None:
    lines = markdown("`http1`", 20.0, parse_report(REPORT)).splitlines()
    assert "| kernel | 30.0 % | 6.0 |" in lines
    assert "| `_PyEval_EvalFrameDefault` | libpython3.11 | 10.0 % | 2.00 |" in lines
    assert not [line for line in lines if "memcpy" in line or "uvloop" in line]
