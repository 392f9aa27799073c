"""``python -m sidecar.wait``: the ``postStart`` hook of a sidecar that is an ordinary container.

Kubernetes starts the next container when the hook has returned: with the sidecar first in the pod, the
application starts when the sidecar is ready (``holdApplicationUntilProxyStarts``, ``pilot-agent wait``).
"""

from __future__ import annotations

import sys
import time

from sidecar.loopback import NoAnswerError, flags, request

_PERIOD_S = 0.1
_REQUEST_TIMEOUT_S = 1.0
_USAGE = "usage: python -m sidecar.wait [--timeout 60] [--status-port 15021]"


def main(arguments: list[str]) -> None:
    values = flags(arguments, {"--timeout": 60, "--status-port": 15021}, _USAGE)
    port, timeout_s = int(values["--status-port"]), values["--timeout"]
    end_s = time.monotonic() + timeout_s
    while (reason := _not_ready(port)) is not None:
        if time.monotonic() >= end_s:
            sys.exit(f"sidecar.wait: the proxy is not ready after {timeout_s:g} s: {reason}")
        time.sleep(_PERIOD_S)


def _not_ready(port: int) -> str | None:
    try:
        status = request("GET", port, "/healthz/ready", timeout_s=_REQUEST_TIMEOUT_S)
    except NoAnswerError as error:
        return str(error)
    return None if status == 200 else f"status {status}"


if __name__ == "__main__":
    main(sys.argv[1:])
