"""``python -m sidecar.agent``: exit code 0 after Envoy, 1 with one line on stderr when it cannot serve."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import uvloop

from sidecar.agent.agent import Agent
from sidecar.agent.settings import AgentSettings, parse_agent_arguments
from sidecar.errors import SidecarError
from sidecar.logs import set_up_logging


def main() -> None:
    try:
        settings = parse_agent_arguments(sys.argv[1:], os.environ)
        set_up_logging(settings.settings.log_level)
        uvloop.run(_serve(settings))
    except SidecarError as error:
        sys.exit(f"sidecar.agent: {error}")


async def _serve(settings: AgentSettings) -> None:
    agent = Agent(settings)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, agent.stop_after_envoy)
    loop.add_signal_handler(signal.SIGINT, agent.stop)
    try:
        await agent.run()
    finally:
        await agent.close()


if __name__ == "__main__":
    main()
