"""The mesh's root, and with it the control plane's certificate, is replaced while a sidecar runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from controlplane.ca.signer_files import ROOT_FILE, load_or_create_root
from tests.support.control_plane import RunningControlPlane, control_plane, create_token, outrigger
from tests.support.processes import Child, child, free_port


class Pod:
    """A sidecar process and its mounted file with the mesh's roots."""

    def __init__(self, folder: Path, xds_port: int) -> None:
        self._folder = folder
        self._address = f"127.0.0.1:{xds_port}"
        self._roots = folder / "mounted-root-cert.pem"
        self._token = folder / "token"

    def mount(self, roots: bytes) -> None:
        """Replaces the file atomically, like a kubelet."""
        draft = self._folder / "draft"
        draft.write_bytes(roots)
        os.replace(draft, self._roots)

    @contextmanager
    def running(self, token: str) -> Iterator[Child]:
        self._token.write_text(token)
        trust = ["--ca-cert", str(self._roots)]
        made = outrigger(
            *("bootstrap", "--name", "web", "--namespace", "default", "--service-account", "web"),
            *("--xds-address", self._address, "--admin-port", "0", *trust),
            *("--interception", "NONE", "--http-proxy-port", "0"),
        )
        assert made.returncode == 0, made.stderr
        bootstrap = self._folder / "bootstrap.yaml"
        bootstrap.write_text(made.stdout)
        identity = ["--ca-address", self._address, *trust, "--token-file", str(self._token)]
        options = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
        command = [sys.executable, "-m", "sidecar", "-c", str(bootstrap), *identity, *options]
        with child(command, self._folder / "sidecar.log") as process:
            yield process


def follows(plane: RunningControlPlane) -> bool:
    clusters = plane.types("web").get("cds")
    return clusters is not None and clusters["state"] == "SYNCED"


def test_a_running_sidecar_reconnects(tmp_path: Path) -> None:
    """The control plane reads its replaced root and is restarted afterwards. The sidecar, which is not
    restarted, must then accept the control plane by the new root."""
    state = tmp_path / "state"
    pod = Pod(tmp_path, port := free_port())

    def serving() -> AbstractContextManager[RunningControlPlane]:
        return control_plane(tmp_path / "mesh", state, "--xds-tls-port", str(port))

    with ExitStack() as stack:
        with serving() as plane:
            old_roots = plane.root_certificate.read_bytes()
            pod.mount(old_roots)
            sidecar = stack.enter_context(pod.running(create_token(state, "default", "web")))
            sidecar.wait_for(lambda: follows(plane), "the sidecar follows the control plane")
            load_or_create_root(tmp_path / "next", "cluster.local", time.time())
            os.replace(tmp_path / "next" / ROOT_FILE, state / ROOT_FILE)
            plane.process.wait_for(
                lambda: plane.root_certificate.read_bytes() != old_roots, "the new root is published"
            )
        pod.mount(plane.root_certificate.read_bytes())
        with serving() as plane:
            sidecar.wait_for(lambda: follows(plane), "the sidecar is back")
