"""The signer for the existing Secrets, and for replicas that start at the same time."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from controlplane.ca.keys import private_key_pem
from controlplane.ca.signer import Pem, make_root
from controlplane.ca.signer_secrets import SignerSecrets
from controlplane.errors import KubernetesError, RefusedError, SettingsError, UnreachableError
from controlplane.kubernetes.api import Document
from tests.support.certificates import TestAuthority
from tests.support.fake_kubernetes_api import FakeKubernetesApi

NOW = 1_800_000_000.0
YEAR = 365 * 24 * 3600.0
SECRETS = "/api/v1/namespaces/mesh/secrets"
OWN = f"{SECRETS}/outrigger-ca-secret"
PLUGGED_IN = f"{SECRETS}/cacerts"


def authority(name: str, issuer: TestAuthority | None = None, **changes: float) -> TestAuthority:
    lifetime = {"not_before": NOW - 3600, "not_after": NOW + YEAR} | changes
    return TestAuthority(name, issuer=issuer, **lifetime)


def secret(path: str, data: dict[str, bytes] | None) -> Document:
    encoded = data and {key: base64.b64encode(value).decode() for key, value in data.items()}
    return {"metadata": {"name": path.rpartition("/")[2]}, "data": encoded}


def secrets(api: Any, **more: Any) -> SignerSecrets:
    return SignerSecrets(api=api, namespace="mesh", trust_domain="example.com", **more)


def api_with(path: str, data: dict[str, bytes] | None) -> FakeKubernetesApi:
    return FakeKubernetesApi({path: secret(path, data)})


def key_pem(holder: TestAuthority) -> bytes:
    return private_key_pem(holder.key)


async def test_a_missing_root_is_created_and_found_again() -> None:
    api = FakeKubernetesApi()
    made = await secrets(api).load_or_create(NOW)
    found = await secrets(api).load_or_create(NOW + 60)
    assert made.is_root
    assert found.certificate == made.certificate
    assert private_key_pem(found.key) == private_key_pem(made.key)
    assert api.writes == [f"POST {SECRETS}"]
    created = api.objects[OWN]
    assert created["type"] == "istio.io/ca-root"
    assert created["data"].keys() == {"ca-cert.pem", "ca-key.pem"}


async def test_replicas_that_start_at_once_agree() -> None:
    class Slow(FakeKubernetesApi):
        """Each replica sees that the Secret is missing before any of them creates it."""

        seen = asyncio.Barrier(3)

        async def create(self, path: str, document: Document) -> Document:
            await self.seen.wait()
            return await super().create(path, document)

    api = Slow()
    signers = await asyncio.gather(*(secrets(api).load_or_create(NOW) for _ in range(3)))
    assert len({signer.certificate for signer in signers}) == 1
    assert len({private_key_pem(signer.key) for signer in signers}) == 1
    assert api.writes == [f"POST {SECRETS}"]


@pytest.mark.parametrize(
    "failure", [UnreachableError("no route"), RefusedError(403, "secrets is forbidden: User x cannot get")]
)
async def test_a_secret_that_cannot_be_read_is_not_taken_to_be_absent(failure: KubernetesError) -> None:
    api = FakeKubernetesApi()
    api.failures = [failure]
    with pytest.raises(type(failure), match=str(failure)):
        await secrets(api).load_or_create(NOW)
    assert not api.writes


async def test_a_secret_that_cannot_be_created_is_reported() -> None:
    api = FakeKubernetesApi()
    api.failures = [
        RefusedError(404, "cacerts"),
        RefusedError(404, "outrigger-ca-secret"),
        RefusedError(403, "cannot create"),
    ]
    with pytest.raises(RefusedError, match="403: cannot create"):
        await secrets(api).load_or_create(NOW)


async def test_the_plugged_in_secret_has_precedence_over_the_generated_root() -> None:
    root = authority("root")
    lower = authority("lower", root)
    api = FakeKubernetesApi()
    await secrets(api).load_or_create(NOW)
    data = {"ca-cert.pem": lower.certificate_pem, "ca-key.pem": key_pem(lower)}
    data |= {
        "cert-chain.pem": lower.certificate_pem + root.certificate_pem,
        "root-cert.pem": root.certificate_pem,
    }
    await api.put(PLUGGED_IN, secret(PLUGGED_IN, data))
    signer = await secrets(api).load_or_create(NOW)
    assert signer.certificate == lower.certificate
    assert signer.intermediates == ()
    assert signer.roots == (root.certificate,)


async def test_a_tls_secret_can_be_plugged_in() -> None:
    """As cert-manager writes it: the certificate and its chain under one key, the root under another."""
    root = authority("root")
    upper = authority("upper", root)
    lower = authority("lower", upper)
    data = {"tls.crt": lower.certificate_pem + upper.certificate_pem, "tls.key": key_pem(lower)}
    signer = await secrets(api_with(PLUGGED_IN, {**data, "ca.crt": root.certificate_pem})).load_or_create(NOW)
    assert signer.certificate == lower.certificate
    assert signer.intermediates == (upper.certificate,)
    assert signer.roots == (root.certificate,)


async def test_istios_keys_have_precedence_in_a_secret_with_both() -> None:
    istio, tls = authority("istio"), authority("tls")
    data = {"ca-cert.pem": istio.certificate_pem, "ca-key.pem": key_pem(istio)}
    data |= {"tls.crt": tls.certificate_pem, "tls.key": key_pem(tls)}
    signer = await secrets(api_with(PLUGGED_IN, data)).load_or_create(NOW)
    assert signer.certificate == istio.certificate


@pytest.mark.parametrize("path", [OWN, PLUGGED_IN])
async def test_more_roots_are_trusted_in_addition(path: str) -> None:
    root, next_root = authority("root"), authority("next")
    api = api_with(path, {"ca-cert.pem": root.certificate_pem, "ca-key.pem": key_pem(root)})
    more = Pem(next_root.certificate_pem, "roots.pem")
    signer = await secrets(api, more_roots=more).load_or_create(NOW)
    assert signer.roots == (root.certificate, next_root.certificate)


ROOT = authority("root")
OTHER = authority("other")
EXPIRED = authority("old", not_after=NOW - 1)
LOWER = authority("lower", ROOT)


@pytest.mark.parametrize("path", [OWN, PLUGGED_IN])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, ": the key ca-cert.pem is missing"),
        ({}, ": the key ca-cert.pem is missing"),
        ({"ca-cert.pem": ROOT.certificate_pem}, ": the key ca-key.pem is missing"),
        ({"ca-cert.pem": b"nonsense", "ca-key.pem": key_pem(ROOT)}, ", ca-cert.pem: not a PEM certificate"),
        ({"ca-cert.pem": b"", "ca-key.pem": key_pem(ROOT)}, ", ca-cert.pem: not a PEM certificate"),
        ({"ca-cert.pem": ROOT.certificate_pem, "ca-key.pem": b"\xff"}, ", ca-key.pem: not an unencrypted"),
        (
            {"ca-cert.pem": ROOT.certificate_pem, "ca-key.pem": key_pem(OTHER)},
            ", ca-key.pem is not the key of the certificate in Secret",
        ),
        (
            {"ca-cert.pem": EXPIRED.certificate_pem, "ca-key.pem": key_pem(EXPIRED)},
            ", ca-cert.pem: the certificate CN=old expired at",
        ),
        (
            {"ca-cert.pem": LOWER.certificate_pem, "ca-key.pem": key_pem(LOWER)},
            ", ca-cert.pem is not self-signed",
        ),
    ],
)
async def test_a_secret_that_cannot_sign_is_named(
    path: str, data: dict[str, bytes] | None, reason: str
) -> None:
    where = f"Secret mesh/{path.rpartition('/')[2]}"
    with pytest.raises(SettingsError, match=f"{where}{reason}"):
        await secrets(api_with(path, data)).load_or_create(NOW)


@pytest.mark.parametrize("value", ["not base64!", "AAA", 7, None])
async def test_a_value_that_is_not_base64_is_named(value: Any) -> None:
    certificate, _ = make_root("example.com", NOW)
    data = {"ca-cert.pem": base64.b64encode(certificate).decode(), "ca-key.pem": value}
    api = FakeKubernetesApi({OWN: {"metadata": {"name": "outrigger-ca-secret"}, "data": data}})
    with pytest.raises(SettingsError, match=r"Secret mesh/outrigger-ca-secret: ca-key.pem is not base64"):
        await secrets(api).load_or_create(NOW)


async def test_a_new_or_changed_plugged_in_secret_is_found() -> None:
    api = FakeKubernetesApi()
    own = await secrets(api).load_or_create(NOW)
    assert (await secrets(api).reload(own, NOW)).is_same_as(own)
    for name in ("first", "second"):
        root = authority(name)
        data = {"ca-cert.pem": root.certificate_pem, "ca-key.pem": key_pem(root)}
        await api.put(PLUGGED_IN, secret(PLUGGED_IN, data))
        assert (await secrets(api).reload(own, NOW)).certificate == root.certificate


async def test_more_roots_are_followed_too() -> None:
    api = FakeKubernetesApi()
    own = await secrets(api).load_or_create(NOW)
    more = authority("more")
    trusting = secrets(api, more_roots=Pem(more.certificate_pem, "more"))
    assert (await trusting.reload(own, NOW)).roots == (own.certificate, more.certificate)


async def test_a_deleted_secret_changes_and_creates_nothing() -> None:
    root = authority("root")
    plugged_in = {"ca-cert.pem": root.certificate_pem, "ca-key.pem": key_pem(root)}
    api = api_with(PLUGGED_IN, plugged_in)
    current = await secrets(api).load_or_create(NOW)
    del api.objects[PLUGGED_IN]
    assert await secrets(api).reload(current, NOW) is current
    assert not api.writes
    await secrets(api).load_or_create(NOW)  # like another replica that starts now
    assert await secrets(api).reload(current, NOW) is current


async def test_a_secret_that_cannot_sign_is_reported() -> None:
    api = FakeKubernetesApi()
    own = await secrets(api).load_or_create(NOW)
    await api.put(PLUGGED_IN, secret(PLUGGED_IN, {"ca-cert.pem": b"no certificate", "ca-key.pem": b""}))
    with pytest.raises(SettingsError, match=r"cacerts, ca-cert.pem"):
        await secrets(api).reload(own, NOW)
