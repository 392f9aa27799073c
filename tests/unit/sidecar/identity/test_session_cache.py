from __future__ import annotations

import ssl

import pytest
import trustme

from sidecar.identity.session_cache import keep_sessions_in_memory
from tests.support.tls_handshakes import handshake, session_of

MAX_SESSIONS = 3


class Site:
    """A server that asks for a certificate, and a client that has one."""

    def __init__(self) -> None:
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.check_hostname = False
        self.server.verify_mode = ssl.CERT_REQUIRED
        for context in (self.server, self.client):
            authority.issue_cert("peer.test").configure_cert(context)
            authority.configure_trust(context)

    def connect(self, session: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession, bool]:
        """The session that the client may resume, and whether this connection was resumed."""
        server, client = handshake(self.server, self.client, session=session)
        assert (server.getpeercert() or {}).get("subjectAltName") == (("DNS", "peer.test"),)
        return session_of(server, client), bool(server.session_reused)


@pytest.fixture
def site() -> Site:
    made = Site()
    if not keep_sessions_in_memory(made.server, MAX_SESSIONS):
        pytest.skip("the interpreter has OpenSSL built in, or is newer than those that are known")
    return made


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_resumes_its_latest_session_again_and_again(site: Site, version: ssl.TLSVersion) -> None:
    site.server.maximum_version = version
    session, reused = site.connect()
    assert not reused
    for _ in range(3 * MAX_SESSIONS):
        session, reused = site.connect(session)
        assert reused
    assert 0 < site.server.session_stats()["number"] <= MAX_SESSIONS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_oldest_session_gives_way_when_there_are_too_many(site: Site, version: ssl.TLSVersion) -> None:
    site.server.maximum_version = version
    sessions = [site.connect()[0] for _ in range(MAX_SESSIONS + 1)]
    assert 0 < site.server.session_stats()["number"] <= MAX_SESSIONS
    assert site.connect(sessions[-1])[1]
    assert not site.connect(sessions[0])[1], "it makes a full handshake"
