from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sidecar.identity.key_process import converse
from tests.support.identities import RATINGS, REVIEWS, TestTrustDomain


class Authority(io.StringIO):
    """Standard input and output of the process: it answers the request that was written."""

    def __init__(self, domain: TestTrustDomain) -> None:
        super().__init__()
        self._domain = domain
        self.answers: list[Any] = []

    def write(self, text: str) -> int:
        self.answers += [json.loads(line) for line in text.splitlines() if line]
        return len(text)

    def readline(self, *_: object) -> str:
        if not self.answers:
            return json.dumps(str(REVIEWS))
        signed = self._domain.sign_for(self._domain.spiffe_id, self.answers[0])
        return json.dumps({"chain": signed.chain, "trust_bundle": signed.trust_bundle, "now": time.time()})


def test_process_answers_with_a_request_and_then_with_the_verified_svid() -> None:
    authority = Authority(TestTrustDomain(REVIEWS))
    converse(authority, authority)
    request, svid = authority.answers
    assert "BEGIN CERTIFICATE REQUEST" in request
    assert set(svid) == {"chain", "key", "trust_bundle", "begins_s", "expires_s"}
    key = load_pem_private_key(svid["key"].encode(), None)
    assert key.public_key() == x509.load_pem_x509_certificate(svid["chain"].encode()).public_key()


def test_process_answers_with_the_reason_against_an_invalid_certificate() -> None:
    authority = Authority(TestTrustDomain(RATINGS))
    converse(authority, authority)
    assert authority.answers[1] == {"error": f"the signed certificate is for {RATINGS}, expected {REVIEWS}"}


def test_process_ends_if_there_is_no_certificate() -> None:
    answers = io.StringIO()
    converse(io.StringIO(json.dumps(str(REVIEWS)) + "\n"), answers)
    assert len(answers.getvalue().splitlines()) == 1


@pytest.mark.parametrize("question", ["", "{", '"spiffe://nonsense"'])
def test_process_fails_without_an_identity(question: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        converse(io.StringIO(question), io.StringIO())
