from __future__ import annotations

import json
from pathlib import Path

from sidecar.admin.server_info import ServerInfo
from sidecar.admin.state import ServerState
from sidecar.config.bootstrap import Bootstrap, Settings


def server_info(settings: Settings, left_s: float | None = None) -> ServerInfo:
    times = iter((100.0, 163.9, 163.9))
    return ServerInfo(
        settings,
        Bootstrap(node_document={"id": "me"}),
        lambda: ServerState.DRAINING,
        seconds_until_expiry=lambda: left_s,
        clock=lambda: next(times),
    )


def test_the_document_tells_state_uptime_and_options_and_no_secret() -> None:
    settings = Settings(token="s3cret", config_path=Path("/etc/envoy.yaml"), drain_time_s=5)
    document = server_info(settings).document()
    assert document["state"] == "DRAINING"
    assert document["uptime_current_epoch"] == "63s"
    assert document["node"] == {"id": "me"}
    options = document["command_line_options"]
    assert (options["concurrency"], options["drain_time"]) == (2, "5s")
    assert options["config_path"] == "/etc/envoy.yaml"
    assert "cache_dir" not in options
    assert "s3cret" not in json.dumps(document)


def test_the_expiry_of_the_certificate_is_shown() -> None:
    assert dict(server_info(Settings(), left_s=2.5 * 24 * 3600).stats()) == {
        "server.live": 0,
        "server.state": 1,
        "server.uptime": 63,
        "server.concurrency": 2,
        "server.days_until_first_cert_expiring": 2,
        "server.seconds_until_first_cert_expiring": 216000,
    }
    assert not any("cert" in name for name, _ in server_info(Settings()).stats())
