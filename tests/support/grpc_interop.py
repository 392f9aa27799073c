"""The client and the server of gRPC's interoperability tests by grpc-go, built once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.go_binary import GoBinary

# A quarter of a minute of CPU the first time.
GRPC_INTEROP = GoBinary(name="grpc-interop", sources=Path(__file__).parents[1] / "interop" / "grpc" / "go")
CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
)


@contextmanager
def serving_by_go(program: Path) -> Iterator[int]:
    """Serves on the port that it yields."""
    with subprocess.Popen([program, "server"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


def run_case(program: Path, port: int, case: str) -> str:
    """Runs a case of the client. Returns its complaints; empty if it passes."""
    command = [program, "client", str(port), case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr
