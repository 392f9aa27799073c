"""`python -m sidecar` as a separate process, on free ports, with a static configuration."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.admin_client import Page, ask
from tests.support.envoy_config import address
from tests.support.processes import Child, child

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunningSidecar:
    process: Child
    addresses: dict[str, str]
    stdout: Path

    def port(self, name: str) -> int:
        return int(self.addresses[name].rpartition(":")[2])

    def ask(self, path: str, method: str = "GET", *, name: str = "admin", **headers: str) -> Page:
        return ask(self.port(name), path, method, headers)

    def wait_for_state(self, state: str) -> None:
        self.process.wait_for(lambda: self.ask("/ready").body == f"{state}\n", f"it is {state}")

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Those of a metric."""
        families = text_string_to_metric_families(self.ask("/metrics", name="metrics").body)
        return [
            (sample.labels, sample.value)
            for family in families
            for sample in family.samples
            if sample.name == name
        ]

    def end(self, with_signal: signal.Signals = signal.SIGINT) -> None:
        self.process.process.send_signal(with_signal)
        assert self.process.process.wait(10) == 0, self.process.output

    def log_lines(self) -> list[str]:
        """The standard output."""
        return self.stdout.read_text().splitlines()


@contextmanager
def running(
    folder: Path, document: Document, *flags: str, max_descriptors: int | None = None
) -> Iterator[RunningSidecar]:
    """Its standard error is the child's output."""
    document = {**document, "admin": {"address": address(0)}}
    file, addresses, stdout = folder / "bootstrap.json", folder / "addresses", folder / "stdout"
    file.write_text(json.dumps(document))
    sidecar = [sys.executable, "-m", "sidecar", "-c", file, "--addresses-file", addresses]
    sidecar += ["--status-port", "0", "--metrics-port", "0", "--drain-time-s", "0", *flags]
    # /dev/stdout is what access logs are written to.
    limit = "" if max_descriptors is None else f"ulimit -n {max_descriptors}; "
    command = ["sh", "-c", f'{limit}exec "$@" > "$0"', stdout, *sidecar]
    with child(command, folder / "stderr") as process:
        process.wait_for(addresses.exists, "the addresses are written")
        yield RunningSidecar(process, json.loads(addresses.read_text()), stdout)
