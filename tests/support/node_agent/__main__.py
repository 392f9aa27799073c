"""Runs the pods of a test cluster as processes of this machine, until SIGTERM or the end of its input.

It writes a line of JSON when its Node is ready: the Node's name, and the folder of the containers' logs,
where the output of each container is in `NAMESPACE_POD_UID/CONTAINER.log`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config

from tests.support.kubernetes_api import kubernetes_api
from tests.support.node_agent.agent import NodeOptions, run_node
from tests.support.node_agent.container_state import BackOff
from tests.support.node_agent.images import read_images


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    node = NodeOptions(
        name=options.node_name,
        images=read_images(options.images),
        back_off=BackOff(initial_s=options.back_off, limit_s=30 * options.back_off),
        kubelet_version=options.kubelet_version,
    )
    asyncio.run(run_until_told(options.kubeconfig, node))
    return 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.support.node_agent", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="YAML or JSON: image -> command line")
    parser.add_argument("--node-name", default="outrigger-node")
    parser.add_argument(
        "--kubelet-version", metavar="VERSION", help="such as v1.32.0 (default: the API server's)"
    )
    parser.add_argument(
        "--back-off", type=float, default=10.0, metavar="SECONDS", help="before a second restart (default 10)"
    )
    return parser


async def run_until_told(kubeconfig: Path, node: NodeOptions) -> None:
    api_server = await server_of(kubeconfig)
    async with kubernetes_api(kubeconfig) as api:
        work = asyncio.create_task(run_node(api, api_server, node, ready=say_ready), name="node")

        def stop() -> None:
            if not work.cancelling():  # once: the node clears up after it
                work.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        at_end_of_input(lambda: loop.call_soon_threadsafe(stop))
        await asyncio.wait([work])
        if not work.cancelled():
            work.result()


def at_end_of_input(then: Callable[[], object]) -> None:
    """In a daemon thread: not every input (a terminal, a file) can be had asynchronously."""

    def read() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        then()

    threading.Thread(target=read, name="end of input", daemon=True).start()


async def server_of(kubeconfig: Path) -> str:
    """The API server, as `host:port`."""
    configuration = Configuration()
    await load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    address = urlsplit(configuration.host)
    return f"{address.hostname}:{address.port or 443}"


def say_ready(node: str, logs: Path) -> None:
    print(json.dumps({"event": "ready", "node": node, "logs": str(logs)}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
