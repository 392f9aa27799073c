from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from controlplane.ca.keys import private_key_pem
from controlplane.ca.signer_files import ROOT_FILE, SignerFiles, load_or_create_root, load_signer
from controlplane.errors import SettingsError
from tests.support.certificates import TestAuthority

NOW = 1_800_000_000.0
YEAR = 365 * 24 * 3600.0


def authority(name: str, issuer: TestAuthority | None = None, **changes: object) -> TestAuthority:
    lifetime = {"not_before": NOW - 3600, "not_after": NOW + YEAR} | changes
    return TestAuthority(name, issuer=issuer, **lifetime)  # type: ignore[arg-type]  # a test's shorthand


def test_the_root_is_made_once_and_loaded_again(tmp_path: Path) -> None:
    first = load_or_create_root(tmp_path, "cluster.local", NOW)
    second = load_or_create_root(tmp_path, "cluster.local", NOW + 60)
    assert first.is_root
    assert second.certificate == first.certificate
    assert private_key_pem(second.key) == private_key_pem(first.key)
    assert first.expires.timestamp() > NOW + 9 * YEAR


def test_an_expired_root_is_rejected_with_the_reason(tmp_path: Path) -> None:
    load_or_create_root(tmp_path, "cluster.local", NOW)
    with pytest.raises(SettingsError, match=r"root-ca.pem: the certificate O=cluster.local expired at"):
        load_or_create_root(tmp_path, "cluster.local", NOW + 11 * YEAR)


@pytest.mark.parametrize(
    "content", [b"", b"not PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_invalid_root_file_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ROOT_FILE).touch(mode=0o600)
    (tmp_path / ROOT_FILE).write_bytes(content)
    with pytest.raises(SettingsError, match=r"root-ca.pem: not a PEM certificate"):
        load_or_create_root(tmp_path, "cluster.local", NOW)


def test_more_roots_are_trusted_in_addition_to_the_generated_one(tmp_path: Path) -> None:
    old, _ = authority("old").write(tmp_path, "old")
    signer = load_or_create_root(tmp_path, "cluster.local", NOW, more_roots=old)
    assert len(signer.roots) == 2
    assert signer.roots[0] == signer.certificate
    assert signer.is_root


def test_a_given_root_needs_no_bundle(tmp_path: Path) -> None:
    root = authority("root")
    certificate, key = root.write(tmp_path, "ca")
    signer = load_signer(SignerFiles(certificate=certificate, key=key), NOW)
    assert signer.is_root
    assert signer.roots == (root.certificate,)


def test_a_given_intermediate_keeps_its_chain_without_itself_and_the_root(tmp_path: Path) -> None:
    root = authority("root")
    upper = authority("upper", root)
    lower = authority("lower", upper, not_after=NOW + 2 * YEAR)
    certificate, key = lower.write(tmp_path, "ca")
    chain, roots = tmp_path / "chain.pem", tmp_path / "roots.pem"
    chain.write_bytes(lower.certificate_pem + upper.certificate_pem + root.certificate_pem)
    roots.write_bytes(root.certificate_pem)

    signer = load_signer(SignerFiles(certificate=certificate, key=key, chain=chain, roots=roots), NOW)

    assert not signer.is_root
    assert signer.intermediates == (upper.certificate,)
    assert signer.expires == upper.certificate.not_valid_after_utc, (
        "the chain expires with its first certificate"
    )


def test_an_intermediate_without_its_root_is_refused(tmp_path: Path) -> None:
    certificate, key = authority("lower", authority("root")).write(tmp_path, "ca")
    with pytest.raises(SettingsError, match="not self-signed: set --root-cert to the root that it chains to"):
        load_signer(SignerFiles(certificate=certificate, key=key), NOW)


def test_a_chain_with_a_gap_is_refused(tmp_path: Path) -> None:
    root = authority("root")
    certificate, key = authority("lower", authority("upper", root)).write(tmp_path, "ca")
    roots, _ = root.write(tmp_path, "root")
    with pytest.raises(SettingsError, match="CN=lower does not chain to a root of the trust bundle"):
        load_signer(SignerFiles(certificate=certificate, key=key, roots=roots), NOW)
    stranger, _ = authority("stranger").write(tmp_path, "stranger")
    with pytest.raises(SettingsError, match=r"CN=lower is not issued by the next.* CN=stranger"):
        load_signer(SignerFiles(certificate=certificate, key=key, chain=stranger, roots=roots), NOW)


def test_an_intermediate_of_an_expired_root_is_refused(tmp_path: Path) -> None:
    root = authority("root", not_after=NOW - 1)
    certificate, key = authority("lower", root).write(tmp_path, "ca")
    roots, _ = root.write(tmp_path, "root")
    with pytest.raises(SettingsError, match="the certificate CN=root expired at"):
        load_signer(SignerFiles(certificate=certificate, key=key, roots=roots), NOW)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    certificate, _ = authority("root").write(tmp_path, "ca")
    _, other_key = authority("other").write(tmp_path, "other")
    with pytest.raises(
        SettingsError, match=r"the key in .*other-key.pem is not the key of the certificate in .*ca-cert"
    ):
        load_signer(SignerFiles(certificate=certificate, key=other_key), NOW)


def test_a_readable_key_is_refused(tmp_path: Path) -> None:
    certificate, key = authority("root").write(tmp_path, "ca")
    key.chmod(0o644)
    with pytest.raises(SettingsError, match="mode 0644"):
        load_signer(SignerFiles(certificate=certificate, key=key), NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"not_after": NOW - 1}, "expired at"),
        ({"not_before": NOW + 60}, "is not valid before"),
        ({"ca": False}, "is not a CA certificate"),
        ({"key": ec.generate_private_key(ec.SECP192R1())}, "an EC key on secp192r1"),
    ],
)
def test_a_certificate_that_must_not_sign_is_refused(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    certificate, key = authority("root", **changes).write(tmp_path, "ca")
    with pytest.raises(SettingsError, match=reason):
        load_signer(SignerFiles(certificate=certificate, key=key), NOW)


def test_files_that_hold_something_else_are_named(tmp_path: Path) -> None:
    certificate, key = authority("root").write(tmp_path, "ca")
    with pytest.raises(SettingsError, match=r"ca-key.pem: not a PEM certificate"):
        load_signer(SignerFiles(certificate=key, key=key), NOW)
    certificate.chmod(0o600)
    with pytest.raises(SettingsError, match=r"ca-cert.pem: not an unencrypted PEM private key"):
        load_signer(SignerFiles(certificate=certificate, key=certificate), NOW)
    with pytest.raises(SettingsError, match=r"cannot read .*absent.pem"):
        load_signer(SignerFiles(certificate=tmp_path / "absent.pem", key=key), NOW)
