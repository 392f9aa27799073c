"""``python -m sidecar``: exit code 0 after a drain, 1 with one line on stderr when it cannot serve.

With one worker it is one process; with several, the process that was started is their master
(`sidecar.process.master`).
"""

from __future__ import annotations

import signal

# Neither signal may end the process during the imports below; `serve` handles them later.
if __name__ == "__main__":
    for _number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(_number, signal.SIG_IGN)

import gc
import os
import socket
import sys

import uvloop

from sidecar.bootstrap import load, parse_arguments
from sidecar.config.bootstrap import Settings
from sidecar.errors import SidecarError
from sidecar.logs import set_up_logging
from sidecar.process.allocator import keep_freed_buffers
from sidecar.process.master import Master, WorkerProcess
from sidecar.process.worker_process import serve_worker

# Requests create no reference cycles, so the collector runs after this many new objects instead of 700.
GC_THRESHOLD = 10_000


def main() -> None:
    try:
        settings = parse_arguments(sys.argv[1:], os.environ)
        set_up_logging(settings.log_level)
        keep_freed_buffers()
        if settings.concurrency == 1:
            _supervise(settings)
            return
        _set_up_garbage_collection()
        process = Master(settings.concurrency).run()
        if isinstance(process, WorkerProcess):
            uvloop.run(serve_worker(process.channel, process.counters))
        else:
            _supervise(settings, process.control)
    except SidecarError as error:
        sys.exit(f"sidecar: {error}")


def _supervise(settings: Settings, control: socket.socket | None = None) -> None:
    # gRPC and protobuf, which neither the master nor a worker needs.
    from sidecar.process.serve import serve  # noqa: PLC0415

    bootstrap = load(settings)
    _set_up_garbage_collection()
    uvloop.run(serve(settings, bootstrap, control))


def _set_up_garbage_collection() -> None:
    gc.freeze()  # modules and classes live as long as the process
    gc.set_threshold(GC_THRESHOLD)


if __name__ == "__main__":
    main()
