"""``python -m sidecar.drain``: the ``preStop`` hook of a native sidecar, ours or Envoy's.

Kubernetes runs the hook when the end of the pod begins, and sends SIGTERM to a native sidecar only when the
application has ended. The hook asks the proxy to drain the inbound side, and returns: clients are asked to
disconnect, while the application can still call others.
"""

from __future__ import annotations

import sys

from sidecar.loopback import ClosedPortError, NoAnswerError, flags, request

_TIMEOUT_S = 5.0
# With `skip_exit`, the inbound side accepts connections even after the drain time: a client that has not
# noticed yet that the pod ends is served as long as the application is.
_PATH = "/drain_listeners?inboundonly&graceful&skip_exit"
_USAGE = "usage: python -m sidecar.drain [--admin-port 15000]"


def main(arguments: list[str]) -> None:
    port = int(flags(arguments, {"--admin-port": 15000}, _USAGE)["--admin-port"])
    try:
        status = request("POST", port, _PATH, timeout_s=_TIMEOUT_S)
    except ClosedPortError:
        return  # an Envoy can end before the hook of its agent asks it, for example in a Job
    except NoAnswerError as error:
        sys.exit(f"sidecar.drain: the proxy cannot be drained: {error}")
    if status != 200:
        sys.exit(f"sidecar.drain: the proxy cannot be drained: it answered with status {status}")


if __name__ == "__main__":
    main(sys.argv[1:])
