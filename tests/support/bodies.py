"""Bodies, read by tests."""

from __future__ import annotations

from sidecar.http.body import Body


async def read_all(body: Body) -> bytes:
    """To the end, waiting for it."""
    data = b""
    while piece := await body.read():
        data += piece
    return data


def received(body: Body) -> bytes:
    """The bytes that have arrived and were not read yet, without an event loop; a body that has ended is read
    to its end. Raises the error that cut the body short."""
    data = b""
    while piece := _read_at_once(body):
        data += piece
    return data


def _read_at_once(body: Body) -> bytes:
    reading = body.read()
    try:
        reading.send(None)
    except StopIteration as read:
        return bytes(read.value)
    except RuntimeError:  # no event loop: the read would wait
        return b""
    reading.close()
    return b""
