"""The file of the injection configuration: followed, and the last good one stays in use."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from controlplane.errors import SettingsError
from controlplane.injection.config import Policy
from controlplane.webhooks.injection_config import InjectionConfigFile
from tests.support.metrics import MOVED_IN, moved

VALID = "outrigger_injection_config_valid"


def test_without_a_file_the_defaults_are_used() -> None:
    assert (
        InjectionConfigFile(None, "outrigger-system", registry=CollectorRegistry()).config.policy
        is Policy.ENABLED
    )


@pytest.mark.parametrize(
    ("text", "expected"), [("", "mesh"), ("values: {hub: a}", "mesh"), ("values: {systemNamespace: b}", "b")]
)
def test_the_control_planes_own_namespace_is_the_default(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "config").write_text(text)
    file = InjectionConfigFile(tmp_path / "config", "mesh", registry=CollectorRegistry())
    assert file.config.values.system_namespace == expected


def test_the_last_good_configuration_stays_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, registry = tmp_path / "config", CollectorRegistry()
    path.write_text("policy: disabled")
    file = InjectionConfigFile(path, "outrigger-system", registry=registry)
    assert moved(registry) == MOVED_IN["unit/controlplane/webhooks/test_injection_config.py"]
    good = file.config
    for content in (b"policy: maybe", b"{", b"\xff", b"- a", b"x" * (5 * 1024 * 1024)):
        path.write_bytes(content)
        file.read()
        assert file.config is good
        assert registry.get_sample_value(VALID) == 0
    path.unlink()
    file.read()
    file.read()
    assert file.config is good
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors) == 6  # each problem once
    assert "policy" in errors[0]
    assert all(str(path) in each and each.endswith("the last good one stays in use") for each in errors)
    path.write_text("policy: enabled")
    file.read()
    assert file.config.policy is Policy.ENABLED
    assert registry.get_sample_value(VALID) == 1


def test_without_a_good_configuration_there_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "config"
    file = InjectionConfigFile(path, "outrigger-system", registry=CollectorRegistry())
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        _ = file.config
    assert caplog.records[-1].getMessage().endswith("pods are refused")
    path.write_text("")
    file.read()
    assert file.config.policy is Policy.ENABLED


async def test_a_mounted_config_map_is_followed(tmp_path: Path) -> None:
    """The kubelet replaces a link to the folder of all files."""
    for name, policy in (("first", "enabled"), ("second", "disabled")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config").write_text(f"policy: {policy}")
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "first")
    file = InjectionConfigFile(
        link / "config", "outrigger-system", registry=CollectorRegistry(), follow_s=0.001
    )
    running = asyncio.create_task(file.run(), name="injection-config")
    new_link = tmp_path / "new"
    new_link.symlink_to(tmp_path / "second")
    os.replace(new_link, link)
    async with asyncio.timeout(5):
        while file.config.policy is not Policy.DISABLED:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
