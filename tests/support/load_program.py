"""For a pod: sends constant load to a URL, and prints each result as a line of JSON.

python load_program.py URL REQUESTS_PER_SECOND
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict

from outrigger.demo.load import Load

PRINT_EVERY_S = 0.2
MOST_IN_FLIGHT = 4  # on a busy machine, a queue that grows would be an overload of its own


async def main(url: str, rate_per_s: float) -> None:
    load = Load(url, rate_per_s=rate_per_s, most_in_flight=MOST_IN_FLIGHT)
    sending = asyncio.create_task(load.run(), name="load")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sending.cancel)
    printed = 0
    while not sending.done():
        await asyncio.wait([sending], timeout=PRINT_EVERY_S)
        for result in load.results[printed:]:
            sys.stdout.write(f"{json.dumps(asdict(result))}\n")
        sys.stdout.flush()
        printed = len(load.results)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
