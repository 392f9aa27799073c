"""``python -m controlplane``: 0 after a signal, 1 with one line when it cannot start, 2 for a wrong flag."""

from __future__ import annotations

import os
import signal
import sys

from controlplane.errors import SettingsError
from controlplane.logs import configure_logging
from controlplane.settings import read_settings


def main() -> None:
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # until `serve` handles them: neither may end the process
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
