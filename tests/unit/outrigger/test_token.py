from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controlplane.ca.tokens import TOKEN_KEY_FILE, TokenVerifier, load_or_create_token_key
from outrigger.__main__ import app
from outrigger.errors import CommandError


def create(state_dir: Path, *arguments: str, namespace: str = "bookinfo") -> str:
    who = ["--namespace", namespace, "--service-account", "reviews", "--state-dir", str(state_dir)]
    result = CliRunner().invoke(app, ["token", "create", *who, *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_printed_token_is_accepted_by_the_control_plane_of_that_folder(tmp_path: Path) -> None:
    token = create(tmp_path).strip()
    verifier = TokenVerifier(load_or_create_token_key(tmp_path), "cluster.local")
    assert str(verifier.verify(token)) == "spiffe://cluster.local/ns/bookinfo/sa/reviews"


def test_a_token_has_the_requested_lifetime(tmp_path: Path) -> None:
    token = create(tmp_path, "--lifetime", "1h30m").strip()
    key = load_or_create_token_key(tmp_path)
    TokenVerifier(key, "td", clock=lambda: time.time() + 5300).verify(token)
    with pytest.raises(Exception, match="expired"):
        TokenVerifier(key, "td", clock=lambda: time.time() + 5500).verify(token)


def test_the_first_token_makes_the_key_for_its_owner_alone(tmp_path: Path) -> None:
    create(tmp_path / "state")
    assert stat.S_IMODE((tmp_path / "state" / TOKEN_KEY_FILE).stat().st_mode) == 0o600


def test_invalid_arguments_are_rejected_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--lifetime: 'soon' is not a duration"):
        create(tmp_path, "--lifetime", "soon")
    with pytest.raises(CommandError, match="not a namespace: 'Book info'"):
        create(tmp_path, namespace="Book info")
