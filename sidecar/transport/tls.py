"""TLS between a TCP transport and a protocol, with the half-close that asyncio's own TLS lacks.

asyncio and uvloop close the connection when the peer sends a close_notify (or a FIN): the data that is still
to be sent is lost, and so is data that was received while reading was paused. They also limit the time in
which a closing connection flushes, even while data still moves. RFC 8446 6.1: a close_notify ends one
direction only.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from sidecar.transport.tls_handshake import HandshakeResult
from sidecar.transport.tls_session import MAX_RECORD_BYTES, TlsSession

_MAX_ANSWERS_BYTES: Final = 64 * 1024


class TlsTransport:
    """The protocol of a TCP transport, and the transport of an application's protocol. It has the methods of
    both of asyncio's classes; uvloop needs neither as a base.

    When the handshake is done and the ALPN protocol is known, the factory creates the application's protocol.
    Its `connection_made` is called before `established` returns, and before any of the peer's data arrives.
    `established` raises the error of a factory, or any other that ends the handshake; ``on_failed`` is called
    with it. After that this object behaves as a TCP transport does:

    - `write_eof` sends a close_notify, and the peer may continue to send;
    - the peer's close_notify, or a FIN without one (which Envoy also accepts as an end), becomes
      `eof_received`: when it returns False the connection closes, else the other direction stays open;
    - `close` sends the written data, a close_notify and a FIN, without a time limit; `abort` sends nothing;
    - a broken connection (a reset, a TLS alert) becomes `connection_lost` with the error.

    Memory: written data is encrypted at once and waits in the TCP transport, whose high-water mark triggers
    `pause_writing`; while reading is paused, the data of one read of the socket is kept. Data that is written
    while OpenSSL cannot write (`TlsSession`) is held, and writing paused.
    """

    __slots__ = (
        "_answers_bytes", "_closing", "_end_told", "_error", "_handshake", "_held", "_loop",
        "_on_first_data", "_open", "_outgoing", "_paused", "_peer_ended", "_plaintext", "_protocol",
        "_protocol_factory", "_raw", "_raw_is_full", "_server_side", "_ticket_bytes", "_tls",
        "_write_ended", "_writing_paused",
    )  # fmt: skip

    def __init__(
        self,
        context: ssl.SSLContext,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
        on_failed: Callable[[Exception], None] | None = None,
        on_first_data: Callable[[ssl.SSLObject], None] | None = None,
    ) -> None:
        """``session``: of an earlier connection, to resume. ``on_first_data`` is called when the peer's first
        data has arrived. Raises ``ValueError`` for a ``server_hostname`` that cannot be sent."""
        self._loop: Final = asyncio.get_running_loop()
        self._tls: Final = TlsSession(
            context, server_side=server_side, server_hostname=server_hostname, session=session
        )
        self._outgoing: Final = self._tls.outgoing
        self._server_side: Final = server_side
        self._protocol_factory: Callable[[], asyncio.BaseProtocol] | None = protocol_factory
        self._protocol: asyncio.Protocol | None = None  # from the end of the handshake to `connection_lost`
        self._raw: asyncio.Transport | None = None
        self._handshake: Final = HandshakeResult(on_failed)
        self._on_first_data = on_first_data
        self._plaintext: list[bytes] = []  # received, and not delivered yet
        self._answers_bytes = 0  # to KeyUpdates, since the write buffer was last empty
        self._held: list[bytes] | None = None  # a list while OpenSSL can neither write nor end
        self._ticket_bytes = 0  # encrypted, and not sent yet
        self._raw_is_full = False
        self._writing_paused = False  # the protocol was told
        self._open = False  # the handshake is done, and the protocol was notified
        self._paused = False
        self._peer_ended = False
        self._end_told = False
        self._write_ended = False
        self._closing = False
        self._error: Exception | None = None

    async def established(self) -> None:
        """Raises ``ssl.SSLError``, or another ``OSError`` when the connection breaks."""
        await self._handshake.wait()

    # asyncio.Protocol: called by the TCP transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from it
        if not self._server_side:
            self._shake_hands()

    def data_received(self, data: bytes) -> None:
        if len(data) <= MAX_RECORD_BYTES:
            self._receive(data)
        else:
            view = memoryview(data)
            for start in range(0, len(view), MAX_RECORD_BYTES):
                if not self._receive(view[start : start + MAX_RECORD_BYTES]):
                    break
        if self._open:
            self._deliver()

    def eof_received(self) -> bool:
        if not self._open:
            self._fail(ConnectionResetError("the peer closed the connection during the TLS handshake"))
            return False
        if self._held is not None:
            self._fail(ConnectionResetError("the peer closed the connection in the middle of a TLS message"))
            return False
        self._peer_ended = True
        self._deliver()
        return not self._closing

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._held = None
        self._on_first_data = None
        error = self._error or exc
        self._end_handshake(error or ConnectionResetError("the connection closed during the handshake"))
        protocol, self._protocol = self._protocol, None  # it has this object: a cycle
        if protocol is not None and self._open:
            self._plaintext.clear()
            protocol.connection_lost(error)

    def pause_writing(self) -> None:
        self._raw_is_full = True
        self._regulate()

    def resume_writing(self) -> None:
        self._raw_is_full = False
        self._regulate()

    # asyncio.Transport: called by the application's protocol.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._tls.ssl_object
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol | None:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True
        if self._raw is not None and not self._peer_ended and not self._closing:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if self._raw is None or self._closing:
            return
        if not self._peer_ended:
            self._raw.resume_reading()
        if self._plaintext or self._peer_ended:
            self._loop.call_soon(self._deliver_later)

    def get_write_buffer_size(self) -> int:
        held_bytes = sum(map(len, self._held)) if self._held else 0
        return held_bytes if self._raw is None else held_bytes + self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        assert self._raw is not None
        return self._raw.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert self._raw is not None
        self._raw.set_write_buffer_limits(high, low)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._write_ended or self._closing:
            return
        if self._held is not None:
            self._hold(data)
            return
        if self._encrypt(data):
            self._send()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._write_ended or self._closing:
            return
        self._write_ended = True
        if self._held is None:
            self._notify_end()

    def close(self) -> None:
        if self._closing:
            return
        self.write_eof()
        if self._closing or self._raw is None:
            return
        self._closing = True
        if self._held is None:
            self._raw.close()
        else:
            self._raw.resume_reading()

    def abort(self) -> None:
        self._held = None
        self._closing = True
        if self._raw is not None:
            self._raw.abort()

    # Internal.

    def _receive(self, data: bytes | memoryview) -> bool:
        """Takes at most `MAX_RECORD_BYTES`, and delivers nothing. Returns whether it takes more."""
        if self._peer_ended or (self._closing and self._held is None):
            return False
        self._tls.incoming.write(data)
        if self._open:
            return self._decrypt()
        self._shake_hands()
        return True

    def _shake_hands(self) -> None:
        try:
            done = self._tls.shake_hands()
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._fail(error)
            return
        if done and self._tls.owes_only_a_ticket:
            self._ticket_bytes = self._outgoing.pending  # goes with the first data, in one write
        else:
            self._send()
        if not done:
            return
        # `write_eof` needs all received data to be decrypted, and the protocol may call it at once.
        if not self._decrypt():
            return
        assert self._protocol_factory is not None
        try:
            protocol = cast("asyncio.Protocol", self._protocol_factory())
        except Exception as error:
            self._fail(error)
            return
        self._protocol = protocol
        self._protocol_factory = None  # its owner has this object: a cycle
        self._open = True
        protocol.connection_made(cast("asyncio.Transport", self))
        self._handshake.succeed()

    def _end_handshake(self, error: Exception) -> None:
        self._protocol_factory = None
        self._handshake.fail(error)

    def _decrypt(self) -> bool:
        """Decrypts all received data. Returns False when that fails, and the connection ends."""
        try:
            if self._tls.decrypt(self._plaintext):
                self._peer_ended = True
        except ssl.SSLError as error:
            self._fail(error)
            return False
        if self._on_first_data is not None and self._plaintext:
            on_first_data, self._on_first_data = self._on_first_data, None
            on_first_data(self._tls.ssl_object)
        if self._held is not None:
            self._write_held()
        return self._outgoing.pending == self._ticket_bytes or self._answer_key_update()

    def _answer_key_update(self) -> bool:
        """False, and the connection ends, when the peer sends KeyUpdates and does not read the answers."""
        assert self._raw is not None
        if not self._raw.get_write_buffer_size():
            self._answers_bytes = 0
        self._answers_bytes += self._outgoing.pending
        if self._answers_bytes > _MAX_ANSWERS_BYTES:
            self._fail(ConnectionAbortedError("the peer does not read the answers to its KeyUpdates"))
            return False
        self._send()
        return True

    def _deliver(self) -> None:
        """Delivers the decrypted data, and then the peer's end, unless reading is paused."""
        plaintext = self._plaintext
        if plaintext and self._protocol is not None and not self._paused and not self._closing:
            data = plaintext[0] if len(plaintext) == 1 else b"".join(plaintext)
            plaintext.clear()
            self._protocol.data_received(data)
        if not self._peer_ended or self._end_told or self._paused or self._closing:
            return
        self._end_told = True
        if self._protocol is not None and not self._protocol.eof_received():
            self.close()

    def _encrypt(self, data: bytes | bytearray | memoryview) -> bool:
        """Returns False when `data` is held instead, or when the connection ends."""
        try:
            records = self._tls.encrypt(data)
        except ssl.SSLWantReadError:
            self._held = []
            self._hold(data)
            return False
        except ssl.SSLError as error:
            self._fail(error)
            return False
        if records is not None:
            assert self._raw is not None
            self._ticket_bytes = 0
            self._raw.writelines(records)
        return True

    def _notify_end(self) -> None:
        try:
            ended = self._tls.notify_end()
        except ssl.SSLError as error:
            self._fail(error)
            return
        if ended:
            self._send()
        elif self._open:
            self._held = []
        else:
            self._fail(ConnectionAbortedError("the connection is closed during the TLS handshake"))

    def _hold(self, data: bytes | bytearray | memoryview) -> None:
        assert self._held is not None
        self._held.append(bytes(data))
        self._regulate()

    def _write_held(self) -> None:
        """More data has arrived: it may complete the TLS message."""
        held, self._held = self._held, None
        if held:
            if not self._encrypt(b"".join(held)):
                return
            self._send()
        if self._write_ended:
            self._notify_end()
        if self._held is not None:
            return
        if self._closing and self._raw is not None:
            self._raw.close()
        else:
            self._regulate()

    def _regulate(self) -> None:
        """Tells the protocol to pause or to resume writing, if that has changed."""
        protocol = self._protocol
        paused = self._raw_is_full or bool(self._held)
        if paused is self._writing_paused or protocol is None:
            return
        self._writing_paused = paused
        if paused:
            protocol.pause_writing()
        else:
            protocol.resume_writing()

    def _deliver_later(self) -> None:
        """Called by the loop, which would not end the connection when the protocol raises."""
        try:
            self._deliver()
        except Exception:
            self.abort()
            raise

    def _send(self) -> None:
        self._ticket_bytes = 0
        if self._outgoing.pending and self._raw is not None:
            self._raw.write(self._outgoing.read())

    def _fail(self, error: Exception) -> None:
        """Ends the connection. OpenSSL's alert is sent if nothing waits in the write buffer before it."""
        self._error = error
        self._held = None
        self._closing = True
        self._end_handshake(error)
        if self._raw is None:
            return
        if self._raw.get_write_buffer_size():
            self._raw.abort()
        else:
            self._send()
            self._raw.close()
