"""HTTP/1.1 load by wrk: closed loop, on one thread. It costs a third of a generator in Python."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.load.generator import LoadError, run_generator
from tests.bench.load.latencies import Load
from tests.bench.load.request import HEADERS, PATH

_SCRIPT = """
wrk.method = "%(method)s"
wrk.body = %(body_bytes)d > 0 and string.rep("x", %(body_bytes)d) or nil
local hosts = {%(hosts)s}
local requests, turn = {}, 0
init = function(arguments)
  for index, host in ipairs(hosts) do
    wrk.headers["Host"] = host
    requests[index] = wrk.format()
  end
end
if #hosts > 0 then
  request = function()
    turn = turn %% #requests + 1
    return requests[turn]
  end
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{"done": %%d, "seconds": %%f, "p50_ms": %%f, "p99_ms": %%f, "p999_ms": %%f, "worst_ms": %%f}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, latency.max / 1e3))
  io.write(string.format("%%d failed\\n", e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def http_load(
    port: int,
    seconds: float,
    *,
    connections: int = 32,
    path: str = PATH,
    tls: bool = False,
    method: str = "GET",
    body_bytes: int = 0,
    close: bool = False,
    hosts: Sequence[str] = (),
) -> Load:
    """Each connection sends the next request when the last is answered. `hosts` take turns. Without wrk, a
    generator in Python, which knows neither bodies nor hosts, sends the load.

    Raises `LoadError` if a request fails.
    """
    if not shutil.which("wrk"):
        if method != "GET" or hosts:
            raise LoadError("this case needs wrk")
        return run_generator(
            "closed_loop",
            port=port,
            seconds=seconds,
            connections=connections,
            protocol="http",
            path=path,
            tls=tls,
            close=close,
        )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        quoted = ", ".join(f'"{host}"' for host in hosts)
        script.write_text(_SCRIPT % {"method": method, "body_bytes": body_bytes, "hosts": quoted})
        headers = HEADERS | ({"connection": "close"} if close else {})
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, math.ceil(seconds))}s", "-s", str(script)]
        command += [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        command.append(f"{'https' if tls else 'http'}://127.0.0.1:{port}{path}")
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures, failed = output.splitlines()[-2:]
    if failed != "0 failed":
        raise LoadError(f"the proxy failed requests: {' '.join(command[:6])} ...:\n{output}")
    return Load.from_json(figures)
