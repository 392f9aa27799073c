"""The bootstrap document that the injector gives to an Envoy, in the hands of the real one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from controlplane.injection import names
from tests.support.envoy import envoy_command
from tests.support.injection import environment, expanded, injected, pod

_POD = {
    "POD_NAME": "web-5d8f7c-x2x4z",
    "POD_NAMESPACE": "shop",
    "INSTANCE_IP": "10.0.0.7",
    "SERVICE_ACCOUNT": "web",
    "NODE_NAME": "node-1",
}


def test_envoy_takes_its_injected_bootstrap_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "root-cert.pem").write_text("roots")
    (tmp_path / "token").write_text("a.b.c")
    text = expanded(
        environment(injected(pod(annotations={"outrigger.dev/proxy": "envoy"})))[names.CONFIG_YAML], _POD
    )
    assert names.ROOTS_FILE in text
    text = text.replace(names.ROOTS_FILE, str(tmp_path / "root-cert.pem"))
    text = text.replace(names.TOKEN_FILE, str(tmp_path / "token"))
    bootstrap = tmp_path / "bootstrap.json"
    bootstrap.write_text(text)
    checked = subprocess.run(
        envoy_command(bootstrap, "--mode", "validate"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, ""), "at log level warning, silence is success"
