"""Messages and descriptors between two processes of the sidecar, over a real socket pair."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from sidecar.process.channel import WorkerChannel, send_blocking

DEADLINE_S = 5.0


@pytest.fixture
async def ends() -> AsyncIterator[tuple[WorkerChannel, WorkerChannel]]:
    one, other = map(WorkerChannel, socket.socketpair())
    yield one, other
    one.close()
    other.close()


async def receive(channel: WorkerChannel) -> tuple[object, int]:
    return await asyncio.wait_for(channel.receive(), DEADLINE_S)


async def test_messages_of_any_size_arrive_whole_and_in_order(
    ends: tuple[WorkerChannel, WorkerChannel],
) -> None:
    one, other = ends
    messages = [b"", "short", b"x" * 5_000_000, {"a": [1, 2]}, b"y" * 300_000]
    for message in messages:
        one.send(message)
    assert [await receive(other) for _ in messages] == [(message, -1) for message in messages]


async def test_descriptors_stay_with_their_messages(ends: tuple[WorkerChannel, WorkerChannel]) -> None:
    one, other = ends
    pipes = [os.pipe() for _ in range(100)]
    for number, (reader, writer) in enumerate(pipes):
        one.send(b"z" * 10_000)
        one.send(number, writer)
        os.close(writer)
        del reader
    for number, (reader, _) in enumerate(pipes):
        assert await receive(other) == (b"z" * 10_000, -1)
        message, descriptor = await receive(other)
        assert message == number
        os.write(descriptor, b"!")
        os.close(descriptor)
        assert os.read(reader, 2) == b"!"
        assert os.read(reader, 2) == b"", "no copy of the other end is open"
        os.close(reader)


async def test_a_process_without_an_event_loop_sends_a_descriptor() -> None:
    ours, theirs = socket.socketpair()
    channel = WorkerChannel(theirs)
    reader, writer = os.pipe()
    send_blocking(ours, "started", writer)
    os.close(writer)
    message, descriptor = await receive(channel)
    assert message == "started"
    os.close(descriptor)
    assert os.read(reader, 1) == b""
    os.close(reader)
    ours.close()
    channel.close()


async def test_what_was_sent_before_the_end_still_arrives(ends: tuple[WorkerChannel, WorkerChannel]) -> None:
    one, other = ends
    one.send("last words")
    one.close()
    assert await receive(other) == ("last words", -1)
    with pytest.raises(EOFError):
        await receive(other)
    other.send("too late")


async def test_the_end_wakes_the_receiver_and_closes_descriptors_that_were_not_sent() -> None:
    one, other = map(WorkerChannel, socket.socketpair())
    waiting = asyncio.create_task(receive(one))
    reader, writer = os.pipe()
    other.send(b"x" * 5_000_000)
    other.send("with a descriptor", writer)
    os.close(writer)
    other.close()
    with pytest.raises(EOFError):
        await waiting
    assert os.read(reader, 1) == b""
    os.close(reader)
    one.close()
