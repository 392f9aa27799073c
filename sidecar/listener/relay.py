"""One side of a proxied TCP connection. It writes the data that it reads to its peer, with backpressure."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from typing import cast

from sidecar.transport.closing import reset
from sidecar.transport.forwarding import Flow, Forwarder, plain_socket


class Relay:
    """It has the methods of an `asyncio.Protocol`; uvloop does not need the base class.

    Passes no data on before `start`. ``on_eof`` and ``on_lost`` get the side; ``on_lost`` also gets the
    error that broke it (a reset or a TLS error), or None after a close by the proxy.

    Data that arrives before `start` is kept, and reading pauses at the first bytes, not earlier: uvloop
    starts to read even if the transport is paused in `connection_made`.

    When a side cannot send fast enough, it pauses reading on the other side: the transports' high-water marks
    bound the memory.

    Between two plain sockets, a flow of `forwarder` passes the data on. The transport reads only the end of
    the data, and writes only data that the kernel did not take at once; meanwhile the flow is stopped.
    """

    __slots__ = (
        "_at_end",
        "_early",
        "_error",
        "_flow",
        "_forwarder",
        "_on_eof",
        "_on_lost",
        "_on_made",
        "_peer_is_behind",
        "_received_bytes",
        "_started",
        "_transport",
        "_written_bytes",
        "ended",
        "peer",
    )

    def __init__(
        self,
        forwarder: Forwarder,
        *,
        on_eof: Callable[[Relay], None],
        on_lost: Callable[[Relay, Exception | None], None],
        on_made: Callable[[], None] | None = None,
    ) -> None:
        self._forwarder = forwarder
        self._flow: Flow | None = None  # of the data from this side to its peer
        self._at_end = False  # the flow has found the end of the data, which the transport reads again
        self._error: OSError | None = None  # that the flow has found
        self._on_made = on_made
        self._on_eof: Callable[[Relay], None] | None = on_eof
        self._on_lost: Callable[[Relay, Exception | None], None] | None = on_lost
        self._transport: asyncio.Transport | None = None
        self._started = False
        self._early: list[bytes] = []
        self._peer_is_behind = False
        self.peer: Relay | None = None
        self._received_bytes = 0  # by the transport
        self._written_bytes = 0  # to the transport
        self.ended = False

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it
        if self._on_made is not None:
            self._on_made()

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if not self._started:
            self._early.append(data)
            self._apply()
            return
        assert self.peer is not None
        self.peer.write(data)

    def eof_received(self) -> bool:
        if not self.ended:
            self.ended = True
            if self._started and self._on_eof is not None:
                self._on_eof(self)
        return True  # the other direction stays open

    def pause_writing(self) -> None:
        assert self.peer is not None
        self.peer.pause_reading_for_peer()

    def resume_writing(self) -> None:
        assert self.peer is not None
        self.peer.resume_reading_for_peer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_flows()  # the transport closes the socket next
        self._transport = None
        if self._on_lost is not None:
            self._on_lost(self, exc if exc is not None else self._error)

    # Called by the other side and by the session.

    @property
    def connected(self) -> bool:
        return self._transport is not None

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def received_bytes(self) -> int:
        return self._received_bytes + self.moved_bytes

    @property
    def sent_bytes(self) -> int:
        moved_bytes = 0 if self.peer is None else self.peer.moved_bytes
        return self._written_bytes + moved_bytes - self.unsent_bytes

    @property
    def has_untaken(self) -> bool:
        """Whether written data is not yet acknowledged by the client or host: a reset would drop it."""
        return self.unsent_bytes > 0 or _kernel_bytes(self._transport, termios.TIOCOUTQ) > 0

    @property
    def holds_unread(self) -> bool:
        """Whether data from this side has not been written to its peer yet."""
        return bool(self._early) or _kernel_bytes(self._transport, termios.FIONREAD) > 0

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._written_bytes += len(data)
            self._transport.write(data)

    def write_eof(self) -> None:
        """Ends this direction after the written data."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def start(self) -> None:
        """Begins to pass data on: the peer can be written to."""
        self._started = True
        self._prepare_flow()
        if self._early:
            assert self.peer is not None
            self.peer.write(b"".join(self._early))
            self._early.clear()
        if self.ended and self._on_eof is not None:
            self._on_eof(self)
        else:
            self._apply()

    def pause_reading_for_peer(self) -> None:
        self._peer_is_behind = True
        self._apply()

    def resume_reading_for_peer(self) -> None:
        self._peer_is_behind = False
        self._apply()

    def close(self) -> None:
        """Closes after the written data has been sent; `reset` stops that."""
        self._stop_flows()
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Closes at once, with a TCP reset."""
        self._stop_flows()
        if self._transport is not None:
            reset(self._transport)

    def end(self) -> None:
        """The session has ended. It has this side, which forgets it: that is a cycle."""
        self._received_bytes += self.moved_bytes
        self._flow = None
        self.peer = None
        self._on_made = None
        self._on_eof = None
        self._on_lost = None

    def _apply(self) -> None:
        """Reads, by the flow or by the transport, or does not."""
        transport = self._transport
        if transport is None or transport.is_closing() or self.ended:
            return
        flow = None if self._at_end else self._flow
        reads = self._started and not self._peer_is_behind
        if flow is None:
            if reads:
                transport.resume_reading()
            else:
                transport.pause_reading()
        elif not reads:
            self._forwarder.stop(flow)
        elif not flow.running:
            transport.pause_reading()
            self._forwarder.start(flow)

    # The flow.

    @property
    def moved_bytes(self) -> int:
        """Those that the flow has read from this side and written to its peer."""
        return 0 if self._flow is None else int(self._flow.moved_bytes)

    def _prepare_flow(self) -> None:
        assert self.peer is not None
        source, sink = plain_socket(self._transport), self.peer.open_for_flow()
        if source >= 0 and sink >= 0:
            self._flow = Flow(source, sink, self._flow_stopped)

    def open_for_flow(self) -> int:
        """Returns the descriptor that a flow may write to, or -1."""
        transport = self._transport
        sink = plain_socket(transport)
        if transport is not None and sink >= 0:
            # It calls `pause_writing` as soon as it holds any data, so that no flow overtakes them.
            transport.set_write_buffer_limits(0)
        return sink

    def _flow_stopped(self, untaken: bytes, error: int) -> None:
        """The flow has read data that the kernel did not take for the peer, or met an error, or else the end
        of the data."""
        if untaken:
            assert self.peer is not None
            self._received_bytes += len(untaken)
            self.peer.write(untaken)
        if error:
            self._error = OSError(error, os.strerror(error))
            self._stop_flows()
            if self._transport is not None:
                self._transport.abort()
            return
        self._at_end = not untaken
        self._apply()

    def _stop_flows(self) -> None:
        """Those from and to this side. Called before its socket closes: the kernel may assign the descriptor
        to another connection then."""
        self.stop_flow()
        if self.peer is not None:
            self.peer.stop_flow()

    def stop_flow(self) -> None:
        if self._flow is not None:
            self._forwarder.stop(self._flow)


def _kernel_bytes(transport: asyncio.Transport | None, queue: int) -> int:
    """Bytes in the kernel: received and not read (FIONREAD), or sent and not acknowledged (TIOCOUTQ)."""
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None:
        return 0
    try:
        answer = fcntl.ioctl(connection.fileno(), queue, bytes(4))
    except (OSError, ValueError):  # closed already
        return 0
    return int(struct.unpack("i", answer)[0])
