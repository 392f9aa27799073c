"""The demo's output: a live screen on a terminal, or else lines, and a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from outrigger.demo.figures import Check, StepFigures, shares
from outrigger.demo.load import Results

WINDOW_S = 3.0
BAR_WIDTH = 40
REFRESH_PER_S = 4
VERSIONS = ("v1", "v2", "v3")


class Screen:
    """Shows the progress of the run. The owner updates `ejected` (the ejected pods) and `hops` (the security
    of each hop)."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self.console = console
        self._live = live
        self._results = Results()
        self._steps: list[StepFigures] = []
        self._total = 0
        self._message = ""
        self.ejected: list[str] = []
        self.hops: list[Check] = []

    @contextmanager
    def running(self, results: Results, *, total: int) -> Iterator[None]:
        """Redraws the live screen while the steps run."""
        self._results, self._total = results, total
        if not self._live:
            yield
            return
        with Live(
            get_renderable=self._draw,
            console=self.console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        ):
            yield

    def say(self, message: str) -> None:
        self._message = message
        if not self._live:
            self._print(message)

    def begin(self, figures: StepFigures) -> None:
        self._steps.append(figures)
        if not self._live:
            self._print(f"\n[bold]{figures.number}. {figures.title}[/]")

    def end(self, figures: StepFigures) -> None:
        if not self._live:
            self._print(
                f"   {figures.requests} requests, {figures.requests_per_s:.0f}/s, "
                f"p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms; {_percentages(figures.shares)}"
            )
            for check in figures.checks:
                self._print(_check(check))
            if figures.note:
                self._print(Text(f"   {figures.note}", "yellow"))

    def _draw(self) -> RenderableType:
        window = self._results.since(time.monotonic() - WINDOW_S)
        table = Table.grid(padding=(0, 2))
        current = shares(window.versions())
        for version in VERSIONS:
            share = current.get(version, 0.0)
            filled = round(share * BAR_WIDTH)
            bar = Text("█" * filled + "·" * (BAR_WIDTH - filled), style="cyan")
            table.add_row(f"reviews {version}", bar, f"{100 * share:5.1f}%")
        done = window.failed()
        success = 100 * (1 - len(done) / len(window)) if window else 0.0
        line = (
            f"{window.rate_per_s():.0f} requests/s   success {success:.2f}%   "
            f"p50 {window.latency_ms(0.5):.1f} ms   p99 {window.latency_ms(0.99):.1f} ms   "
            f"ejected: {', '.join(self.ejected) or 'none'}"
        )
        steps = [_step_line(figures, running=figures is self._steps[-1]) for figures in self._steps]
        hops = [_check(check) for check in self.hops]
        title = f"Outrigger: step {len(self._steps)} of {self._total}" if self._steps else "Outrigger"
        return Panel(
            Group(*steps, Text(""), table, Text(line), *hops, Text(self._message, "dim")), title=title
        )

    def summary(self, steps: list[StepFigures], hops: list[Check], *, failed: int, requests: int) -> None:
        """Prints the final table."""
        table = Table(title="Results of the steps")
        for column in ("step", "requests", "failed", "p50 ms", "p99 ms", "shares", "passed"):
            table.add_column(column, overflow="fold")
        for figures in steps:
            table.add_row(
                f"{figures.number}. {figures.title}",
                str(figures.requests),
                str(figures.failed),
                f"{figures.p50_ms:.1f}",
                f"{figures.p99_ms:.1f}",
                _percentages(figures.shares),
                "[green]yes[/]" if figures.ok else "[red]no[/]",
            )
        self.console.print()
        self.console.print(table)
        for check in hops:
            self._print(_check(check))
        whole_run = f"{failed} of {requests}"
        self._print(_check(Check("no failed client request in the whole run", not failed, whole_run)))
        for figures in steps:
            if figures.note:
                self._print(Text(f"step {figures.number}: {figures.note}", "yellow"))
            for check in figures.checks:
                if not check.ok:
                    self._print(Text(f"step {figures.number}:"), _check(check))

    def _print(self, *parts: Text | str) -> None:
        """Prints a line without wrapping it, so that it can be copied."""
        self.console.print(*parts, highlight=False, soft_wrap=True)


def _check(check: Check) -> Text:
    mark = Text("   ✓ ", "green") if check.ok else Text("   ✗ ", "bold red")
    return mark + Text(f"{check.what}" + (f" ({check.detail})" if check.detail else ""))


def _step_line(figures: StepFigures, *, running: bool) -> Text:
    if running:
        return Text(f" ▶ {figures.number}. {figures.title}", "bold")
    mark, style = ("✓", "green") if figures.ok else ("✗", "red")
    return Text(f" {mark} {figures.number}. {figures.title}", style)


def _percentages(of: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.1f}%" for name, share in of.items()) or "-"
