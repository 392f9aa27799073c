from __future__ import annotations

import json
from pathlib import Path

import pytest

from protos.spiffe import SpiffeId
from sidecar.agent.identity_folder import IdentityFolder
from sidecar.errors import BootstrapError
from sidecar.identity.svid_pem import SvidPem

NAMES = ("cert-chain.pem", "key.pem", "root-cert.pem")


def svid(version: str) -> SvidPem:
    chain, key, roots = (f"{name} {version}".encode() for name in NAMES)
    return SvidPem(
        spiffe_id=SpiffeId("cluster.local", "default", "web"), chain=chain, key=key, trust_bundle=roots
    )


def stored(folder: Path) -> list[str]:
    return [(folder / name).read_text() for name in NAMES]


def keys(folder: Path) -> int:
    return len(list(folder.rglob("..[0-9]*/key.pem")))


def test_a_certificate_is_stored_for_envoy_to_find(tmp_path: Path) -> None:
    identity = IdentityFolder(tmp_path / "identity")
    assert not identity.written
    identity.write(svid("1"))
    assert identity.written
    assert stored(tmp_path / "identity") == [f"{name} 1" for name in NAMES]


def test_the_secrets_watch_the_folder(tmp_path: Path) -> None:
    IdentityFolder(tmp_path).write(svid("1"))
    (default,) = json.loads((tmp_path / "default.json").read_text())["resources"]
    assert default == {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "default",
        "tls_certificate": {
            "certificate_chain": {"filename": f"{tmp_path}/cert-chain.pem"},
            "private_key": {"filename": f"{tmp_path}/key.pem"},
            "watched_directory": {"path": str(tmp_path)},
        },
    }
    (roots,) = json.loads((tmp_path / "ROOTCA.json").read_text())["resources"]
    assert roots["validation_context"] == {
        "trusted_ca": {"filename": f"{tmp_path}/root-cert.pem"},
        "watched_directory": {"path": str(tmp_path)},
    }


def test_a_renewal_replaces_all_files_at_once(tmp_path: Path) -> None:
    identity = IdentityFolder(tmp_path)
    identity.write(svid("1"))
    links = {name: (tmp_path / name).readlink() for name in NAMES}
    identity.write(svid("2"))
    assert stored(tmp_path) == [f"{name} 2" for name in NAMES]
    assert {name: (tmp_path / name).readlink() for name in NAMES} == links, "only ..data has moved"


def test_old_keys_are_removed(tmp_path: Path) -> None:
    identity = IdentityFolder(tmp_path)
    for version in range(5):
        identity.write(svid(str(version)))
    assert keys(tmp_path) == 2, "the current one, and the one before, which may be read at this moment"
    key = (tmp_path / "key.pem").resolve()
    assert key.stat().st_mode & 0o777 == 0o640
    assert key.parent.stat().st_mode & 0o777 == 0o750


def test_a_restarted_agent_keeps_the_certificate_in_use(tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        IdentityFolder(tmp_path).write(svid(version))
    (tmp_path / "..data_next").symlink_to("..1")  # the agent was killed during a renewal
    restarted = IdentityFolder(tmp_path)
    assert restarted.written
    assert keys(tmp_path) == 1
    assert stored(tmp_path) == [f"{name} 3" for name in NAMES]
    restarted.write(svid("4"))
    assert stored(tmp_path) == [f"{name} 4" for name in NAMES]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        BootstrapError, match=r"--identity-dir .*/file/identity: cannot be written: Not a dir"
    ):
        IdentityFolder(tmp_path / "file" / "identity")
