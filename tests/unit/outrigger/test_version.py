from __future__ import annotations

import pytest

from outrigger import __main__ as command
from sidecar.build_info import BUILD


def test_the_version_says_which_build_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["outrigger", "version"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert (end.value.code, capsys.readouterr().out) == (0, f"outrigger {BUILD}\n")
