"""``python -m controlplane``. The exit code is 0 after a signal, 1 when the process cannot start, and 2 for
an invalid flag."""

from __future__ import annotations

import signal

# These signals must not end the process during the imports, which take most of the startup. `serve` handles
# them afterwards.
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
        # These imports are slow. An invalid flag is reported before them.
        import uvloop  # noqa: PLC0415

        from controlplane.runtime import serve  # noqa: PLC0415

        uvloop.run(serve(settings))
    except SettingsError as error:
        sys.exit(f"controlplane: {error}")


if __name__ == "__main__":
    main()
