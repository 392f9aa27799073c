"""The ratios at a glance, as SVG: a line for each case, a dot for each build, the bar as a mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from tests.bench.report.results import CaseResult, Ratio

WIDTH, ROW, LEFT, RIGHT, TOP, BOTTOM = 760, 24, 190, 20, 46, 44
MOST = 2.5
"""A ratio beyond it is drawn at the edge."""
_STEP = 0.25
_COLOURS = ("#1a7f4b", "#c06a00", "#5b4bb7", "#a3274f")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case: the ratios of the builds that were measured, and the bar, if it is a ratio."""

    name: str
    ratios: Mapping[str, Ratio]
    bar: float | None


def rows(cases: Sequence[CaseResult], builds: Sequence[str]) -> list[Row]:
    made = []
    for case in cases:
        ratios = {
            build: ratio
            for build in builds
            if build in case.contenders and (ratio := case.ratio(build, case.compared)) is not None
        }
        limits = [bar.limit for bar in case.bars if bar.figure == case.compared and not bar.absolute]
        made.append(Row(name=case.name, ratios=ratios, bar=limits[0] if limits else None))
    return made


def svg(rows: Sequence[Row], builds: Sequence[str]) -> str:
    height = TOP + ROW * len(rows) + BOTTOM
    colours = dict(zip(builds, _COLOURS, strict=False))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *_legend(colours),
        *_scale(height - BOTTOM),
    ]
    for number, row in enumerate(rows):
        parts += _row(row, TOP + ROW * number + ROW / 2, colours)
    return "\n".join([*parts, "</svg>"]) + "\n"


def x_of(ratio: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(ratio, MOST) / MOST


def _legend(colours: Mapping[str, str]) -> list[str]:
    parts, x = [], float(LEFT)
    for build, colour in colours.items():
        parts.append(f'<circle cx="{x:.1f}" cy="16" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 10:.1f}" y="20">{escape(build)}</text>')
        x += 30 + 7 * len(build)
    parts.append(f'<rect x="{x:.1f}" y="8" width="3" height="16" fill="black"/>')
    parts.append(f'<text x="{x + 10:.1f}" y="20">the bar: at most this</text>')
    return parts


def _scale(bottom: float) -> list[str]:
    parts = []
    for step in range(int(MOST / _STEP) + 1):
        ratio = step * _STEP
        x, colour, width = x_of(ratio), "#dddddd", 1.0
        if ratio == 1.0:
            colour, width = "#555555", 1.5
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="{colour}" '
            f'stroke-width="{width}"/>'
        )
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{ratio:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    words = "ratio to Envoy in the same run (1: the same; less is better), with its lowest and highest round"
    parts.append(f'<text x="{middle:.1f}" y="{bottom + 34}" text-anchor="middle">{words}</text>')
    return parts


def _row(row: Row, y: float, colours: Mapping[str, str]) -> list[str]:
    parts = [f'<text x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(row.name)}</text>']
    if row.bar is not None:
        parts.append(f'<rect x="{x_of(row.bar) - 1.5:.1f}" y="{y - 9:.1f}" width="3" height="18"/>')
    for build, ratio in row.ratios.items():
        colour = colours[build]
        parts.append(
            f'<line x1="{x_of(ratio.lowest):.1f}" y1="{y:.1f}" x2="{x_of(ratio.highest):.1f}" y2="{y:.1f}" '
            f'stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(f'<circle cx="{x_of(ratio.median):.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
    return parts
