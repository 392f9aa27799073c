"""One connection's TLS, without its I/O: bytes of the peer in, bytes for the peer out."""

from __future__ import annotations

import ssl
from typing import Final

MAX_RECORD_BYTES: Final = 16 * 1024  # RFC 8446 5.1: of plaintext. A `MemoryBIO` keeps its largest size


class TlsSession:
    """`incoming` and `outgoing` hold what OpenSSL has not read yet, and what is to be sent. Each method that
    talks to OpenSSL raises ``ssl.SSLError`` when the session is broken; an alert may be in `outgoing` then.

    OpenSSL can neither write nor end while it holds an incomplete message of TLS itself, such as a session
    ticket that spans several records (RFC 8446 4.6, 5.1).
    """

    __slots__ = ("_ssl", "incoming", "outgoing")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
    ) -> None:
        """Raises ``ValueError`` for a ``server_hostname`` that cannot be sent."""
        self.incoming: Final = ssl.MemoryBIO()
        self.outgoing: Final = ssl.MemoryBIO()
        self._ssl: Final = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
        )

    @property
    def ssl_object(self) -> ssl.SSLObject:
        return self._ssl

    def shake_hands(self) -> bool:
        """Returns whether the handshake is done. Raises ``ssl.CertificateError`` too."""
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    @property
    def owes_only_a_ticket(self) -> bool:
        """Whether nothing waits for what a server has left to send at the end of the handshake: in TLS 1.3
        its last flight is a session ticket (RFC 8446 4.6.1)."""
        return self._ssl.server_side and self._ssl.version() == "TLSv1.3"

    def decrypt(self, plaintext: list[bytes]) -> bool:
        """Appends all received data. Returns whether the peer has sent its close_notify."""
        decrypt, incoming = self._ssl.read, self.incoming
        try:
            while incoming.pending:
                data = decrypt(MAX_RECORD_BYTES)
                if not data:
                    return True
                plaintext.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # both directions have ended
            return True
        return False

    def encrypt(self, data: bytes | bytearray | memoryview) -> list[bytes] | None:
        """Encrypts all of `data`. Returns the records of large data; those of other data are in `outgoing`.
        Raises ``ssl.SSLWantReadError``, and encrypts nothing, while OpenSSL cannot write."""
        if len(data) <= MAX_RECORD_BYTES:
            self._ssl.write(data)
            return None
        view, records = memoryview(data), []
        for start in range(0, len(view), MAX_RECORD_BYTES):
            # Only the first one can fail: nothing is read between them.
            self._ssl.write(view[start : start + MAX_RECORD_BYTES])
            records.append(self.outgoing.read())
        return records

    def notify_end(self) -> bool:
        """Writes a close_notify. All received data must have been decrypted. Returns False while OpenSSL
        cannot end."""
        try:
            self._ssl.unwrap()
        except ssl.SSLWantReadError:  # the peer has not ended
            pass
        except ssl.SSLError as error:
            if error.reason == "SHUTDOWN_WHILE_IN_INIT":
                return False
            raise
        return True
