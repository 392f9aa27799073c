from __future__ import annotations

import pytest

from sidecar.router.grpc_timeout import CallTimeout, format_grpc_timeout, parse_grpc_timeout


@pytest.mark.parametrize(
    ("value", "timeout_ms"),
    [
        (b"1H", 3_600_000),
        (b"2M", 120_000),
        (b"3S", 3000),
        (b"4m", 4),
        (b"1000u", 1),
        (b"1001u", 2),
        (b"1n", 1),
        (b"0S", 0),
        (b"99999999H", 359_999_996_400_000),
        (b"100000000m", None),
        (b"5", None),
        (b"S", None),
        (b"", None),
        (b"-1S", None),
        (b"+1S", None),
        (b"1.5S", None),
        (b"1s", None),
        (b" 1S", None),
    ],
)
def test_parsing(value: bytes, timeout_ms: int | None) -> None:
    assert parse_grpc_timeout([(b"grpc-timeout", value)]) == timeout_ms


@pytest.mark.parametrize(
    ("timeout_ms", "value"),
    [
        (0, b"0m"),
        (99_999_999, b"99999999m"),
        (100_000_000, b"100000S"),
        (99_999_999_999, b"99999999S"),
        (100_000_000_000, b"1666666M"),
        (10_000_000_000_000, b"2777777H"),
        (10**18, b"99999999H"),
    ],
)
def test_formatting(timeout_ms: int, value: bytes) -> None:
    assert format_grpc_timeout(timeout_ms) == value


@pytest.mark.parametrize(
    ("max_s", "offset_s", "value", "timeout_s"),
    [
        (0.0, 0.0, None, 0.0),
        (0.0, 0.0, b"2S", 2.0),
        (1.0, 0.0, None, 1.0),
        (1.0, 0.0, b"2S", 1.0),
        (1.0, 0.0, b"300m", 0.3),
        (0.0, 0.5, b"2S", 1.5),
        (0.0, 0.5, b"500m", 0.5),
        (0.0, 0.5, b"400m", 0.4),
        (1.0, 0.5, b"2S", 1.0),
    ],
)
def test_the_timeout_of_a_route(max_s: float, offset_s: float, value: bytes | None, timeout_s: float) -> None:
    headers = [] if value is None else [(b"grpc-timeout", value)]
    assert CallTimeout(max_s, offset_s).of(headers) == timeout_s
