"""Which build of the data path a sidecar process runs."""

from __future__ import annotations

from pathlib import Path

from tests.support.builds import ASKED_FOR
from tests.support.envoy_config import bootstrap
from tests.support.running_sidecar import running


def test_a_sidecar_process_runs_the_build_under_test(tmp_path: Path) -> None:
    with running(tmp_path, bootstrap()) as sidecar:
        version = sidecar.ask("/server_info").json["version"]
    assert version.split("/")[3] == ASKED_FOR
