"""``--drop-invalid``. REDIRECT does not translate a packet outside of the window of its connection, and the
pod answers it with a reset."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.support.intercepted_pod import PORT, InterceptedPod
from tests.support.network_namespaces import PROXY, ROOT

# linux/tcp.h
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21
RECEIVE_QUEUE, SEND_QUEUE = 1, 2
ACK = 0x10
IPV6_CHECKSUM = 7


def sequence_number(client: socket.socket, queue: int) -> int:
    client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
    return client.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) & 0xFFFFFFFF


def sequence_numbers(client: socket.socket) -> tuple[int, int]:
    """The next ones to send, and to receive."""
    client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    try:
        return sequence_number(client, SEND_QUEUE), sequence_number(client, RECEIVE_QUEUE)
    finally:
        client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, -1)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_outside_of_the_window(pod: InterceptedPod, client: socket.socket) -> None:
    sent, received = sequence_numbers(client)
    sequence = (sent + 100_000_000) & 0xFFFFFFFF
    fields = [client.getsockname()[1], PORT, sequence, received, 5 << 4, ACK, 1000, 0, 0, b"!?"]
    packed = struct.Struct("!HHIIBBHHH2s")
    with pod.outside.entered():
        raw = socket.socket(pod.side.kind, socket.SOCK_RAW, socket.IPPROTO_TCP)
    with raw:
        if pod.side.kind == socket.AF_INET6:
            raw.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, 16)
        else:
            addresses = socket.inet_aton(pod.side.outside) + socket.inet_aton(pod.side.pod)
            pseudo = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, packed.size)
            fields[7] = checksum(pseudo + packed.pack(*fields))
        raw.sendto(packed.pack(*fields), (pod.side.pod, 0))


@pytest.mark.parametrize("drops", [False, True])
def test_a_packet_outside_of_the_window_resets_its_connection_unless_it_is_dropped(
    pod: InterceptedPod, drops: bool
) -> None:
    assert pod.run(*(["--drop-invalid"] if drops else [])) == 0
    with (
        pod.pod.listen(pod.side, 15006, owner=PROXY) as listener,
        pod.outside.socket(pod.side, socket.SOCK_STREAM, ROOT) as client,
    ):
        client.connect((pod.side.pod, PORT))
        connection, _ = listener.accept()
        with connection:
            send_outside_of_the_window(pod, client)
            if not drops:
                with pytest.raises(ConnectionResetError):
                    client.recv(100)
                return
            connection.sendall(b"answer")
            assert client.recv(100) == b"answer"
