"""HTTP/2 load by h2load: closed loop, on one thread, with several requests in flight on each connection."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.bench.load.generator import LoadError
from tests.bench.load.latencies import Load, load_of

_SUCCEEDED = re.compile(r"requests: \d+ total, \d+ started, \d+ done, \d+ succeeded, (\d+) failed")
_STATUSES = re.compile(r"status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx")


def h2_load(
    port: int,
    seconds: float,
    *,
    path: str,
    headers: Mapping[str, str],
    connections: int = 8,
    in_flight: int = 10,
    body: bytes = b"",
    tls: bool = False,
) -> Load:
    """`in_flight` requests on each connection; with a `body`, they are POST. Raises `LoadError` without
    h2load, and if a request fails."""
    if not shutil.which("h2load"):
        raise LoadError("this case needs h2load (nghttp2-client)")
    whole_seconds = max(1, math.ceil(seconds))
    with tempfile.TemporaryDirectory() as folder:
        log, content = Path(folder) / "log", Path(folder) / "body"
        command = ["h2load", "-t1", f"-c{connections}", f"-m{in_flight}", f"-D{whole_seconds}"]
        command += [f"--log-file={log}"]
        if body:
            content.write_bytes(body)
            command += ["-d", str(content)]
        command += [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        command.append(f"{'https' if tls else 'http'}://127.0.0.1:{port}{path}")
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        latencies_s = [int(line.split("\t")[2]) / 1e6 for line in log.read_text().splitlines()]
    outcome, statuses = _SUCCEEDED.search(output), _STATUSES.search(output)
    if outcome is None or statuses is None or outcome[1] != "0":
        raise LoadError(f"the proxy failed requests: {' '.join(command[:5])} ...:\n{output}")
    return load_of(latencies_s, whole_seconds)
