from __future__ import annotations

import pytest

from sidecar.loopback import flags

KNOWN = {"--timeout": 60.0, "--status-port": 15021.0}


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ([], {}),
        (["--timeout", "5"], {"--timeout": 5.0}),
        (["--timeout=0.5s", "--status-port=1"], {"--timeout": 0.5, "--status-port": 1.0}),
    ],
)
def test_flags_replace_the_defaults(arguments: list[str], changed: dict[str, float]) -> None:
    assert flags(arguments, KNOWN, "usage") == KNOWN | changed


@pytest.mark.parametrize(
    "arguments", [["--other", "1"], ["--timeout"], ["--timeout", "-1"], ["--help"], ["1.2.3"]]
)
def test_other_flags_end_with_the_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="usage"):
        flags(arguments, KNOWN, "usage")
