"""The volumes of the studio as text: the browser draws it at once, sharply, and can read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd

from csegsynth_kit.constants import COLORS, MEASURED
from csegsynth_kit.show.studio_volumes import QUANTILES, Reference, caution_about

_WIDTH, _LEFT, _PLOT, _TOP, _ROW = 900, 52, 400, 44, 56
_PERSON, _CHANGE, _RANGE, _PEOPLE = 500, 584, 690, 826
_INK, _SOFT, _BAND, _QUARTILES = "#222222", "#666666", "#DADADA", "#ABABAB"


def volumes_panel(
    volumes: Mapping[str, float],
    *,
    limit_ml: float,
    interval: pd.DataFrame | None = None,
    stale: bool = False,
    people: Reference | None = None,
    before: Mapping[str, float] | None = None,
) -> str:
    """Draw volumes as bars with numbers beside them, as SVG.

    Args:
        volumes: Tissue to volume (mL) of the person.
        limit_ml: End of the axis (mL).
        interval: Rows of a ``studio_volumes.Interval``; None where it is not known yet.
        stale: Whether ``interval`` is still that of the answers before.
        people: Participants to compare with.
        before: Volumes of the person pinned (mL).
    """
    bottom = _TOP + _ROW * len(MEASURED)
    parts = [*_axis(limit_ml, bottom), *_heads(interval, people, before)]
    for i, tissue in enumerate(MEASURED):
        row = _Row(tissue, _TOP + _ROW * i, limit_ml)
        parts += row.bar(volumes[tissue])
        if interval is not None:
            parts += row.range(interval.set_index("tissue").loc[tissue], stale)
        if people is not None and len(people.quantiles):
            parts += row.people(people.quantiles[tissue])
        if before is not None:
            parts += row.change(before[tissue], volumes[tissue])
    spoken = ", ".join(f"{tissue} {volumes[tissue]:.0f} mL" for tissue in MEASURED)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {bottom + 34}" width="100%" role="img" '
        f'aria-label="Volumes: {spoken}" font-family="system-ui, sans-serif" font-size="13">'
        f"{''.join(parts)}</svg>"
    )


def panel_caption(
    interval: pd.DataFrame | None, interval_name: str, people: Reference | None
) -> str:
    """Say what the marks of :func:`volumes_panel` are, of how many people, and what to doubt.

    Args:
        interval: Rows of a ``studio_volumes.Interval``, or None.
        interval_name: Whose range it is.
        people: Participants compared with, or None.
    """
    parts = ["Bar: this synthetic person."]
    if interval is not None:
        level = 100 * interval["level"].iloc[0]
        parts.append(f"Line with ends: {level:g} % range of {interval_name}.")
    if people is None:
        parts.append("No cohort was given to compare with.")
    elif len(people.quantiles):
        parts.append(
            f"Gray: 5 to 95 % of {people.n} {people.who}; dark: the middle half; stroke: median."
        )
    else:
        parts.append(f"Only {people.n} {people.who}: too few to show.")
    caption = f'<div class="studio-caption">{escape(" ".join(parts))}</div>'
    caution = "" if interval is None else caution_about(interval)
    if not caution:
        return caption
    return f'<div class="studio-warning" role="status">{escape(caution)}</div>{caption}'


@dataclass(frozen=True)
class _Row:
    tissue: str
    top: float
    limit_ml: float

    def _x(self, volume_ml: float) -> float:
        return _LEFT + _PLOT * min(volume_ml / self.limit_ml, 1.0)

    def bar(self, volume_ml: float) -> list[str]:
        return [
            _text(_LEFT - 10, self.top + 17, self.tissue, anchor="end", bold=True),
            _box(_LEFT, self.top + 4, self._x(volume_ml) - _LEFT, 17, COLORS[self.tissue]),
            _text(_PERSON, self.top + 18, _ml(volume_ml), bold=True, name=self.tissue),
        ]

    def range(self, row: pd.Series, stale: bool) -> list[str]:
        low, high, y = self._x(row["low_ml"]), self._x(row["high_ml"]), self.top + 12.5
        path = f"M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 5}v10M{high:.1f} {y - 5}v10"
        words = f"{_ml(row['low_ml'])} to {_ml(row['high_ml'])}"
        opacity = 0.25 if stale else 1
        return [
            f'<g opacity="{opacity}"><path d="{path}" stroke="{_INK}" stroke-width="1.6"/>',
            _text(_RANGE, self.top + 18, words),
            "</g>",
        ]

    def people(self, quantiles: pd.Series) -> list[str]:
        low, first, middle, third, high = (self._x(v) for v in quantiles.loc[QUANTILES])
        y = self.top + 26
        words = f"{_ml(quantiles[0.5])} ({_ml(quantiles[0.05])} to {_ml(quantiles[0.95])})"
        return [
            _box(low, y, high - low, 9, _BAND),
            _box(first, y, third - first, 9, _QUARTILES),
            _box(middle - 1, y - 1, 2, 11, _INK),
            _text(_PEOPLE, self.top + 18, words, color=_SOFT),
        ]

    def change(self, before_ml: float, now_ml: float) -> list[str]:
        x, y = self._x(before_ml), self.top
        return [
            f'<path d="M{x:.1f} {y + 4}l-4.5 -7h9z" fill="white" stroke="{_INK}"/>',
            _text(_CHANGE, self.top + 18, _signed(now_ml - before_ml)),
        ]


def _axis(limit_ml: float, bottom: float) -> list[str]:
    step = 200 if limit_ml >= 500 else 50
    parts = []
    for tick in np.arange(0, limit_ml + 1, step):
        x = _LEFT + _PLOT * tick / limit_ml
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#E6E6E6"/>')
        parts.append(_text(x, bottom + 15, f"{tick:.0f}", color=_SOFT))
    return [
        *parts,
        _text(_LEFT + _PLOT / 2, bottom + 32, "Volume (mL)", color=_SOFT),
    ]


def _heads(
    interval: pd.DataFrame | None, people: Reference | None, before: Mapping | None
) -> list[str]:
    heads = [(_PERSON, "this person", "(mL)")]
    if before is not None:
        heads.append((_CHANGE, "change since", "pinned \u25bd (mL)"))
    if interval is not None:
        heads.append((_RANGE, f"{100 * interval['level'].iloc[0]:g} % range", "(mL)"))
    if people is not None:
        many = "median (5 to 95 %), mL" if len(people.quantiles) else "too few to show"
        heads.append((_PEOPLE, f"{people.n} participants", many))
    return [
        _text(x, y, line, color=_SOFT, size=12)
        for x, *lines in heads
        for y, line in zip((14, 30), lines, strict=True)
    ]


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "middle",
    color: str = _INK,
    bold: bool = False,
    size: float = 13,
    name: str = "",
) -> str:
    weight = ' font-weight="600"' if bold else ""
    label = f' data-volume="{name}"' if name else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" '
        f'font-size="{size}"{weight}{label}>{escape(words)}</text>'
    )


def _box(x: float, y: float, width: float, height: float, color: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height}" '
        f'fill="{color}"/>'
    )


def _ml(volume_ml: float) -> str:
    return f"{volume_ml:.0f}"


def _signed(change_ml: float) -> str:
    return f"{change_ml:+.0f}".replace("-", "\u2212") if abs(change_ml) >= 0.5 else "0"
