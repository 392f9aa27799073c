"""``python -m controlplane``: 0 after a signal, 1 with one line when it cannot start, 2 for a wrong flag."""

from __future__ import annotations

import signal

# Neither may end the process while it starts, and imports are most of that: `serve` handles them.
if __name__ == "__main__":
    for _number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(_number, signal.SIG_IGN)

import os
import sys

from controlplane.errors import SettingsError
from controlplane.logs import configure_logging
from controlplane.settings import read_settings


def main() -> None:
    configure_logging("info", "text")
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        configure_logging(settings.log_level, settings.log_format)
        # What serves is heavy: a wrong flag should not wait for it.
        import uvloop  # noqa: PLC0415

        from controlplane.runtime import serve  # noqa: PLC0415

        uvloop.run(serve(settings))
    except SettingsError as error:
        sys.exit(f"controlplane: {error}")


if __name__ == "__main__":
    main()
