from __future__ import annotations

import subprocess
import sys

import pytest

from outrigger import __main__ as command


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> str | int | None:
    monkeypatch.setattr(sys, "argv", ["outrigger", *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    code: str | int | None = end.value.code
    return code


def test_a_failure_prints_one_line_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    code = run("bootstrap", "--name", "x", "--xds-address", "nowhere", monkeypatch=monkeypatch)
    assert (
        code == "outrigger: invalid address 'nowhere': expected HOST:PORT"
    )  # sys.exit prints a text and exits with code 1


def test_a_wrong_option_is_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("bootstrap", "--colour", monkeypatch=monkeypatch) == 2


def test_the_command_starts_without_slow_imports() -> None:
    heavy = {"grpc", "cryptography", "fastapi", "rich.progress", "envoy", "kubernetes"}
    listing = "import sys, outrigger.__main__; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    ).stdout
    assert heavy.isdisjoint(modules.split())
