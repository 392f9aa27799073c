from __future__ import annotations

import pytest

from sidecar.observability.grpc_call import GrpcCall, MessageCounter, called_method
from sidecar.observability.stats import GrpcStats


def message(size: int) -> bytes:
    return b"\0" + size.to_bytes(4, "big") + b"x" * size


STREAM = message(3) + message(0) + message(300) + message(1)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 11, 100, len(STREAM)])
def test_messages_are_counted_however_they_are_cut(size: int) -> None:
    counter = MessageCounter()
    for at in range(0, len(STREAM), size):
        counter.feed(STREAM[at : at + size])
    assert counter.count == 4


def test_a_message_counts_from_its_first_byte() -> None:
    counter = MessageCounter()
    counter.feed(message(2) + b"\0")
    assert counter.count == 2
    counter.feed(b"\0\0\0\1")
    counter.feed(b"x")
    assert counter.count == 2


def test_a_large_message_is_not_kept_in_memory() -> None:
    counter = MessageCounter()
    counter.feed(b"\0\xff\xff\xff\xff")
    for _ in range(100):
        counter.feed(bytes(1 << 20))
    assert counter.count == 1


TEXT = [(b"content-type", b"application/grpc")]


@pytest.mark.parametrize(
    ("http_status", "headers", "trailers", "status"),
    [
        (200, TEXT, [(b"grpc-status", b"5")], 5),
        (200, [*TEXT, (b"grpc-status", b"3")], [(b"grpc-status", b"0")], 0),
        (200, [*TEXT, (b"grpc-status", b"14")], [], 14),
        (200, TEXT, [], 2),
        (503, [], [], 14),
        (404, [], [], 12),
        (200, TEXT, [(b"grpc-status", b"17")], -1),
        (200, TEXT, [(b"grpc-status", b"x")], -1),
        (200, TEXT, [(b"grpc-status", b"")], 2),
    ],
)
def test_the_status_of_a_call(
    http_status: int, headers: list[tuple[bytes, bytes]], trailers: list[tuple[bytes, bytes]], status: int
) -> None:
    call = GrpcCall()
    call.end(http_status, headers, trailers)
    assert call.status == status


@pytest.mark.parametrize(
    ("path", "called"),
    [
        (b"/pkg.Service/Known", ("pkg.Service", "Known")),
        (b"/pkg.Service/Known?a=/b", ("pkg.Service", "Known")),
        (b"//a//b/", ("a", "b")),
        (b"/a", None),
        (b"/a/b/c", None),
        (b"", None),
    ],
)
def test_a_path_names_a_service_and_its_method(path: bytes, called: tuple[str, str] | None) -> None:
    assert called_method(path) == called


def test_a_status_that_was_made_of_a_response_without_grpc_is_not_counted() -> None:
    call = GrpcCall(over_web=True)
    call.stats, call.web_stats = GrpcStats(), GrpcStats()
    call.translated = True
    call.request_messages.feed(message(1))
    call.end(200, [(b"grpc-status", b"12")], [])
    assert (call.stats.total, call.stats.request_message_count, call.web_stats.total) == (0, 1, 0)
    assert call.status == 12
