from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey

from controlplane.ca import tokens
from controlplane.ca.keys import private_key_pem
from controlplane.ca.tokens import TokenVerifier, create_token, load_or_create_token_key
from controlplane.errors import SettingsError, UnauthenticatedError
from protos.spiffe import SpiffeId

NOW = 1_800_000_000.0
KEY = ECKey.generate_key("P-256")
FOREIGN_KEY = ECKey.generate_key("P-256")


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(clock: Clock) -> TokenVerifier:
    return TokenVerifier(KEY, "cluster.local", clock=clock)


def token(**claims: Any) -> str:
    """Returns the claims of a valid token with changes; None removes a claim."""
    good = {
        "iss": "outrigger",
        "sub": "system:serviceaccount:bookinfo:reviews",
        "aud": ["outrigger-ca"],
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
        "kubernetes.io": {"namespace": "bookinfo", "serviceaccount": {"name": "reviews"}},
    }
    changed = {name: value for name, value in (good | claims).items() if value is not None}
    return jwt.encode({"alg": "ES256"}, changed, KEY, algorithms=["ES256"])


def test_a_token_authenticates_its_service_account(verifier: TokenVerifier) -> None:
    made = create_token(KEY, "bookinfo", "reviews", lifetime_s=60, now=NOW)
    assert verifier.verify(made) == SpiffeId("cluster.local", "bookinfo", "reviews")


def test_a_cached_token_expires(verifier: TokenVerifier, clock: Clock) -> None:
    made = create_token(KEY, "bookinfo", "reviews", lifetime_s=60, now=NOW)
    verifier.verify(made)
    clock.now = NOW + 69
    verifier.verify(made)
    clock.now = NOW + 70  # after the leeway of 10 s
    with pytest.raises(UnauthenticatedError, match="the token has expired"):
        verifier.verify(made)


def test_an_expired_token_that_is_not_cached_is_rejected(verifier: TokenVerifier) -> None:
    made = create_token(KEY, "bookinfo", "reviews", lifetime_s=60, now=NOW - 70)
    with pytest.raises(UnauthenticatedError, match="the token has expired"):
        verifier.verify(made)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": None},
        {"aud": "somebody-else"},
        {"aud": ["a", "b"]},
        {"iss": "https://kubernetes.default.svc"},
        {"iss": None},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": int(NOW) + 3600},
        {"nbf": int(NOW) + 3600},
        {"sub": None},
        {"sub": "system:serviceaccount:bookinfo:admin"},
        {"sub": 7},
        {"kubernetes.io": None},
        {"kubernetes.io": "bookinfo"},
        {"kubernetes.io": {"namespace": "bookinfo", "serviceaccount": "reviews"}},
        {"kubernetes.io": {"namespace": "other", "serviceaccount": {"name": "reviews"}}},
        {
            "sub": "system:serviceaccount:../x:reviews",
            "kubernetes.io": {"namespace": "../x", "serviceaccount": {"name": "reviews"}},
        },
    ],
)
def test_invalid_claims_are_rejected(verifier: TokenVerifier, claims: dict[str, Any]) -> None:
    with pytest.raises(UnauthenticatedError):
        verifier.verify(token(**claims))


def test_the_claims_that_the_invalid_ones_are_made_from_are_valid(verifier: TokenVerifier) -> None:
    assert verifier.verify(token()) == SpiffeId("cluster.local", "bookinfo", "reviews")


def test_a_token_signed_with_another_key_is_rejected(verifier: TokenVerifier) -> None:
    foreign = create_token(FOREIGN_KEY, "bookinfo", "reviews", lifetime_s=60, now=NOW)
    with pytest.raises(UnauthenticatedError, match="the token is invalid"):
        verifier.verify(foreign)


def test_an_unsigned_token_is_rejected(verifier: TokenVerifier) -> None:
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    payload = token().split(".")[1]
    with pytest.raises(UnauthenticatedError, match="the token is invalid"):
        verifier.verify(f"{header}.{payload}.")


def test_a_token_signed_with_the_public_key_as_a_secret_is_rejected(verifier: TokenVerifier) -> None:
    """An algorithm confusion attack: HS256 with the public key as the secret."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256"}).encode()).rstrip(b"=")
    signed = header + b"." + token().split(".")[1].encode()
    digest = hmac.new(KEY.as_pem(private=False), signed, "sha256").digest()
    forged = (signed + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()
    with pytest.raises(UnauthenticatedError, match="the token is invalid"):
        verifier.verify(forged)


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../dev/null"},
        {"kid": KEY.thumbprint()},
        {"jku": "https://example.com/keys"},
        {"x5u": "https://example.com/cert.pem"},
        {"jwk": FOREIGN_KEY.as_dict(private=False)},
    ],
)
def test_no_header_can_bring_another_key(verifier: TokenVerifier, header: dict[str, Any]) -> None:
    payload = base64.urlsafe_b64decode(token().split(".")[1] + "==")
    forged = jwt.encode({"alg": "ES256", **header}, json.loads(payload), FOREIGN_KEY, algorithms=["ES256"])
    with pytest.raises(UnauthenticatedError, match="the token is invalid"):
        verifier.verify(forged)


@pytest.mark.parametrize(
    "namespace", ["bоokinfo", "book\u200binfo", "ｂookinfo", "book/info", "a" * 64, "bookinfo\n"]
)
def test_a_claim_with_an_invalid_namespace_is_rejected(verifier: TokenVerifier, namespace: str) -> None:
    claims = {
        "sub": f"system:serviceaccount:{namespace}:reviews",
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": "reviews"}},
    }
    with pytest.raises(UnauthenticatedError, match="not a namespace"):
        verifier.verify(token(**claims))


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "{}", "\ud800", "é.é.é", token()[:-8], "A" * 20000])
def test_a_malformed_token_is_rejected_and_not_repeated_in_the_error(
    verifier: TokenVerifier, text: str
) -> None:
    with pytest.raises(UnauthenticatedError) as refusal:
        verifier.verify(text)
    assert len(text) < 5 or text not in str(refusal.value)


def test_a_deeply_nested_header_is_rejected(verifier: TokenVerifier) -> None:
    header = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 11000).decode()
    with pytest.raises(UnauthenticatedError, match="the token is invalid"):
        verifier.verify(f"{header}.e30.e30")


def test_a_cached_token_is_not_verified_again(
    verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = token()
    verifier.verify(made)
    monkeypatch.setattr(tokens.jwt, "decode", None)
    assert verifier.verify(made).service_account == "reviews"


def test_the_token_cache_is_bounded(verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MAX_VERIFIED_TOKENS", 2)
    first, second, third = (token(jti=str(number)) for number in range(3))
    for made in (first, second, first, third):
        verifier.verify(made)
    monkeypatch.setattr(tokens.jwt, "decode", None)
    verifier.verify(first)
    verifier.verify(third)
    with pytest.raises(UnauthenticatedError):  # removed from the cache: it would be verified again
        verifier.verify(second)


def test_a_token_is_not_created_for_invalid_names() -> None:
    with pytest.raises(ValueError, match="not a namespace: 'a/b'"):
        create_token(KEY, "a/b", "reviews", lifetime_s=60, now=NOW)


def test_the_token_key_is_kept_in_the_state_folder(tmp_path: Path, clock: Clock) -> None:
    made = create_token(load_or_create_token_key(tmp_path), "bookinfo", "reviews", lifetime_s=60, now=NOW)
    again = TokenVerifier(load_or_create_token_key(tmp_path), "cluster.local", clock=clock)
    assert again.verify(made).namespace == "bookinfo"


@pytest.mark.parametrize(
    "content",
    [b"", b"no key", private_key_pem(ec.generate_private_key(ec.SECP384R1()))],
    ids=["empty", "no key", "another curve's"],
)
def test_a_token_key_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / tokens.TOKEN_KEY_FILE
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"token-key.pem: "):
        load_or_create_token_key(tmp_path)
