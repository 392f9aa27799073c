"""A resumed session is checked as its first connection was."""

from __future__ import annotations

import dataclasses
import ssl
import time

import pytest

from sidecar.config.tls import (
    DownstreamTls,
    SanMatch,
    SanMatchKind,
    TlsParameters,
    UpstreamTls,
)
from sidecar.errors import IdentityError
from sidecar.identity.contexts import TlsContexts
from tests.support.identities import (
    MESH_CLIENT,
    MESH_SERVER,
    RATINGS,
    REVIEWS,
    TestTrustDomain,
    mesh_parameters,
)
from tests.support.tls_handshakes import certificate_for, handshake, session_of


def test_resumed_session_has_the_identities_of_its_first_connection() -> None:
    domain = TestTrustDomain()
    reviews, ratings = domain.contexts(REVIEWS), domain.contexts(RATINGS)
    sides = reviews.server(MESH_SERVER), ratings.client(MESH_CLIENT)
    session = session_of(*handshake(*sides, "reviews"))
    server, client = handshake(*sides, "reviews", session)
    assert (server.session_reused, client.session_reused) == (True, True)
    assert reviews.verify_client(MESH_SERVER, server).id == str(RATINGS)
    assert ratings.verify_server(MESH_CLIENT, client) == str(REVIEWS)
    strict = dataclasses.replace(
        MESH_SERVER,
        parameters=mesh_parameters(SanMatch(kind=SanMatchKind.EXACT, value=str(REVIEWS), san_type="URI")),
    )
    assert reviews.server(strict) is sides[0], "only the expected names differ"
    with pytest.raises(IdentityError, match="no name of the peer matches"):
        reviews.verify_client(strict, server)


@pytest.mark.parametrize("trusted", [True, False])
def test_session_is_not_resumed_after_the_server_has_a_new_certificate_or_new_roots(trusted: bool) -> None:
    domain = TestTrustDomain()
    reviews = domain.contexts(REVIEWS)
    client = domain.contexts(RATINGS).client(MESH_CLIENT)
    session = session_of(*handshake(reviews.server(MESH_SERVER), client, "reviews"))
    reviews.use_svid((domain if trusted else TestTrustDomain()).svid(REVIEWS).pem())
    client.verify_mode = ssl.CERT_NONE
    if trusted:
        server, _ = handshake(reviews.server(MESH_SERVER), client, "reviews", session)
        assert not server.session_reused
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(reviews.server(MESH_SERVER), client, "reviews", session)


def test_resumed_session_whose_certificate_has_expired_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    domain = TestTrustDomain()
    reviews, ratings = domain.contexts(REVIEWS), domain.contexts(RATINGS)
    sides = reviews.server(MESH_SERVER), ratings.client(MESH_CLIENT)
    session = session_of(*handshake(*sides, "reviews"))
    server, client = handshake(*sides, "reviews", session)
    in_two_days_s = time.time() + 2 * 86_400
    monkeypatch.setattr(time, "time", lambda: in_two_days_s)
    with pytest.raises(IdentityError, match="has expired"):
        reviews.verify_client(MESH_SERVER, server)
    with pytest.raises(IdentityError, match="has expired"):
        ratings.verify_server(MESH_CLIENT, client)


def test_resumed_session_of_a_server_that_is_not_verified_is_accepted() -> None:
    served = DownstreamTls(parameters=TlsParameters(certificate=certificate_for("reviews")))
    contexts, tls = TlsContexts(), UpstreamTls(parameters=TlsParameters(), sni="reviews")
    sides = contexts.server(served), contexts.client(tls)
    session = session_of(*handshake(*sides, "reviews"))
    _, client = handshake(*sides, "reviews", session)
    assert client.session_reused
    assert contexts.verify_server(tls, client) == ""
