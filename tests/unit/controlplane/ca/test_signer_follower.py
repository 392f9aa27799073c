"""Changes of the stored signer."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.ca.authority import Authority
from controlplane.ca.signer import Signer
from controlplane.ca.signer_files import SignerFiles, load_or_create_root, load_root, load_signer
from controlplane.ca.signer_follower import SignerFollower
from controlplane.errors import SettingsError, UnreachableError
from tests.support.certificates import TestAuthority

NOW = 1_800_000_000.0


def root(name: str, issuer: TestAuthority | None = None) -> TestAuthority:
    return TestAuthority(name, issuer=issuer, not_before=NOW - 60, not_after=NOW + 3600)


class Stored:
    """The mounted files of a signer, and a follower that reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roots = folder / "roots.pem"
        self.hold(root("first"))
        self.authority = Authority(self.load(), clock=lambda: NOW)
        self.changes = 0
        self.problem: Exception | None = None
        self.follower = SignerFollower(self.authority, self.reload, self.note, interval_s=1)

    def hold(self, signer: TestAuthority, *roots: TestAuthority) -> None:
        signer.write(self.folder, "ca")
        self.roots.write_bytes(b"".join(each.certificate_pem for each in roots or (signer,)))

    def load(self) -> Signer:
        certificate, key = self.folder / "ca-cert.pem", self.folder / "ca-key.pem"
        return load_signer(SignerFiles(certificate=certificate, key=key, roots=self.roots), NOW)

    async def reload(self) -> Signer:
        return self.load()

    def note(self) -> None:
        if self.problem is not None:
            raise self.problem
        self.changes += 1


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


async def test_an_unchanged_signer_causes_no_callback(stored: Stored) -> None:
    before = stored.authority.signer
    await stored.follower.look()
    assert stored.authority.signer is before
    assert stored.changes == 0


async def test_a_staged_rotation_warns_of_nothing(stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
    old, new = root("old"), root("new")
    stored.hold(old)
    await stored.follower.look()
    caplog.clear()
    for signer, roots in ((old, (old, new)), (new, (old, new)), (new, (new,))):
        stored.hold(signer, *roots)
        await stored.follower.look()
        assert stored.authority.signer.certificate == signer.certificate
        assert stored.authority.signer.roots == tuple(each.certificate for each in roots)
    assert stored.changes == 4
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_a_signer_under_an_unknown_root_causes_a_warning(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    stored.hold(root("sudden"))
    await stored.follower.look()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "was not in the trust bundle" in warning


async def test_a_signer_that_cannot_sign_is_not_used_and_logged_once(
    stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    before = stored.authority.signer
    certificate = root("of another key").certificate_pem
    (stored.folder / "ca-cert.pem").write_bytes(certificate)
    for _ in range(3):
        await stored.follower.look()
    assert stored.authority.signer is before
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "is not the key of the certificate" in warning

    stored.hold(root("whole"))
    await stored.follower.look()
    assert stored.authority.signer is not before


async def test_the_signer_stays_while_the_api_server_is_unreachable(tmp_path: Path) -> None:
    authority = Authority(load_or_create_root(tmp_path, "cluster.local", NOW))
    before = authority.signer

    async def away() -> Signer:
        raise UnreachableError("away")

    await SignerFollower(authority, away, lambda: None, interval_s=1).look()
    assert authority.signer is before


async def test_a_failed_publication_is_repeated(stored: Stored) -> None:
    stored.problem = SettingsError("the disk is full")
    stored.hold(root("new"))
    await stored.follower.look()
    stored.problem = None
    await stored.follower.look()
    await stored.follower.look()
    assert stored.changes == 1


def test_a_deleted_generated_root_is_not_created_again(tmp_path: Path) -> None:
    load_or_create_root(tmp_path, "cluster.local", NOW)
    (tmp_path / "root-ca.pem").unlink()
    with pytest.raises(SettingsError, match="cannot read"):
        load_root(tmp_path, NOW)
    assert not (tmp_path / "root-ca.pem").exists()
