from __future__ import annotations

import base64
import json

import pytest

from sidecar.config.bootstrap import CaProvider
from sidecar.identity.ca_provider import provider_for


def token(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{payload}.c2ln"


@pytest.mark.parametrize("audience", ["istio-ca", ["istio-ca"], ["other", "istio-ca"]])
def test_a_token_for_an_istiod(audience: object) -> None:
    assert provider_for(token({"iss": "kubernetes", "aud": audience})) is CaProvider.ISTIOD


@pytest.mark.parametrize(
    "other",
    [
        token({"aud": ["outrigger-ca"]}),
        token({"aud": "istio-ca-of-another"}),
        token({"aud": {"istio-ca": 1}}),
        token({"sub": "istio-ca"}),
        token(["istio-ca"]),
        "",
        "istio-ca",
        "a.b.c",
        "a.\u00e9.c",
        f"a.{base64.urlsafe_b64encode(b'[' * 100_000).decode()}.c",
        "a." + "=" * 9 + ".c",
    ],
)
def test_any_other_token_is_for_the_own_service(other: str) -> None:
    assert provider_for(other) is CaProvider.OUTRIGGER
