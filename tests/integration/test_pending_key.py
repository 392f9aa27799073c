"""The process that has the key until the certificate is there."""

from __future__ import annotations

import time

import pytest

from sidecar.errors import IdentityError
from sidecar.identity.contexts import TlsContexts
from sidecar.identity.pending_key import pending_key
from tests.support.identities import MESH_SERVER, RATINGS, REVIEWS, TestTrustDomain


async def test_certificate_of_a_key_in_a_process() -> None:
    domain = TestTrustDomain(REVIEWS)
    async with pending_key(REVIEWS) as key:
        svid = await key.accept(await domain.sign(await key.signing_request()), time.time())
    assert svid.spiffe_id == REVIEWS
    contexts = TlsContexts()
    contexts.use_svid(svid.pem())
    contexts.server(MESH_SERVER)  # OpenSSL checks that the key belongs to the certificate


async def test_invalid_certificate_is_refused_with_the_reason() -> None:
    domain = TestTrustDomain(RATINGS)
    async with pending_key(REVIEWS) as key:
        signed = await domain.sign(await key.signing_request())
        with pytest.raises(IdentityError, match=f"is for {RATINGS}, expected {REVIEWS}"):
            await key.accept(signed, time.time())


async def test_process_that_fails_is_an_error() -> None:
    async with pending_key(REVIEWS, ["true"]) as key:
        with pytest.raises(IdentityError, match="the process with the key has failed"):
            await key.signing_request()
    with pytest.raises(IdentityError, match="cannot be started"):
        async with pending_key(REVIEWS, ["/missing"]):
            pass
