"""The studio on paper: one person of it as a figure, for where nothing can be moved."""

import textwrap
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from csegsynth_kit.analysis.generate import generate
from csegsynth_kit.analysis.synthetic import SyntheticMaps
from csegsynth_kit.constants import COLORS, DIVERGING, MEASURED
from csegsynth_kit.data.cohort import Cohort
from csegsynth_kit.models import Family
from csegsynth_kit.show import brains
from csegsynth_kit.show.studio_pictures import LARGEST_CHANGE, change_slice, size_mm
from csegsynth_kit.show.studio_volumes import (
    QUANTILES,
    SPREAD,
    Interval,
    Reference,
    axis_limit_ml,
    caution_about,
    reference,
    spread_interval,
    volumes_of,
)
from csegsynth_kit.show.studio_words import standing_words
from csegsynth_kit.show.tables import what_differs, who

_CAPTION_WIDTH = 132
_TITLE_WIDTH = 100


def studio_figure(
    model: Family,
    person: Mapping,
    cohort: Cohort | None = None,
    *,
    before: Mapping | None = None,
    seed: int = 0,
    interval: Interval | None = None,
    interval_name: str = SPREAD,
    tissue: str = "CSF",
) -> Figure:
    """Draw what the studio shows of a person: three views, and volumes beside participants.

    Args:
        model: A trained conditional model.
        person: Answers; questions may be left out.
        cohort: Participants to compare volumes with.
        before: Other answers of the same individual; the change since is drawn below, and what
            differs is said.
        seed: The individual.
        interval: As in ``studio``.
        interval_name: As in ``studio``.
        tissue: Whose change is drawn.
    """
    now = generate(model, person, seed=seed)
    then = None if before is None else generate(model, before, seed=seed)
    rows = 1 if then is None else 2
    figure = plt.figure(figsize=(7.6, 2.75 * rows + 2.7), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.5 * rows, 2.3))
    _draw_views(top, now, then, tissue)
    whom = f"One generated individual: {who(person) or 'age and sex not given'}"
    since = "" if before is None else what_differs(before, person)
    below = f"Below: change of {tissue} from {since}" if since else ""
    top.suptitle("\n".join([whom, *textwrap.wrap(below, _TITLE_WIDTH)]), fontsize=9)
    given = (interval or spread_interval(model))(person)
    people = None if cohort is None else reference(cohort, person)
    ax = bottom.subplots()
    volumes_chart(now, given, people, then, limit_ml=axis_limit_ml(model), ax=ax)
    marks = _marks(given, interval_name, people, since)
    caption = f"{marks} {standing_words(model.card['simulated'])}"
    warned = " ".join(now.warnings)
    text = textwrap.fill(f"{caption} {warned}".strip(), _CAPTION_WIDTH)
    bottom.supxlabel(text, fontsize=7.5, color="#444444", x=0.01, ha="left")
    return figure


def volumes_chart(
    now: SyntheticMaps,
    interval: pd.DataFrame,
    people: Reference | None = None,
    before: SyntheticMaps | None = None,
    *,
    limit_ml: float,
    ax: Axes | None = None,
) -> Axes:
    """Draw volumes as bars, with a range, and the participants' distribution below each.

    Args:
        now: One map.
        interval: Rows of a ``studio_volumes.Interval``.
        people: Participants to compare with.
        before: The map before, whose volumes are drawn as triangles.
        limit_ml: End of the axis (mL).
        ax: Where to draw.
    """
    ax = plt.gca() if ax is None else ax
    volumes, rows = volumes_of(now), interval.set_index("tissue")
    for y, name in enumerate(MEASURED):
        low, high = rows.loc[name, "low_ml"], rows.loc[name, "high_ml"]
        ax.barh(y, volumes[name], height=0.4, color=COLORS[name])
        ax.errorbar(
            (low + high) / 2, y, xerr=(high - low) / 2, color="#222222", capsize=3, linewidth=1.2
        )
        words = f"{volumes[name]:.0f} mL ({low:.0f} to {high:.0f})"
        if people is not None and len(people.quantiles):
            least, first, middle, third, most = people.quantiles.loc[QUANTILES, name]
            strip = {"y": y + 0.34, "height": 0.16}
            ax.barh(left=least, width=most - least, color="#DADADA", **strip)
            ax.barh(left=first, width=third - first, color="#ABABAB", **strip)
            ax.vlines(middle, y + 0.25, y + 0.43, color="#222222", linewidth=1.2)
        if before is not None:
            old = volumes_of(before)[name]
            ax.plot(old, y - 0.3, marker="v", color="white", markeredgecolor="#222222")
            words += f", change {volumes[name] - old:+.0f}".replace("-", "\u2212")
        ax.annotate(words, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    heads = "this person (range)" + ("" if before is None else ", change since \u25bd")
    ax.annotate(heads, (1.01, 1.0), xycoords="axes fraction", fontsize=8, color="#666666")
    ax.set(xlim=(0, limit_ml), yticks=range(len(MEASURED)), xlabel="Volume (mL)")
    ax.set_yticklabels(MEASURED)
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    return ax


def _draw_views(
    part: SubFigure, now: SyntheticMaps, before: SyntheticMaps | None, tissue: str
) -> None:
    views = list(brains.VIEWS)
    widths = [size_mm(now.grid, view)[0] for view in views]
    rows = 1 if before is None else 2
    axes = part.subplots(rows, len(views), width_ratios=widths, squeeze=False)
    for ax, view in zip(axes[0], views, strict=True):
        brains.brain(now.probabilities[0], now.grid, view, ax=ax)
        ax.set_title(view)
        ax.set_anchor("N")
    if before is not None:
        for ax, view in zip(axes[1], views, strict=True):
            _draw_change(ax, before, now, view, tissue)
        points = f"{100 * LARGEST_CHANGE:.0f}"
        scale = plt.cm.ScalarMappable(plt.Normalize(-LARGEST_CHANGE, LARGEST_CHANGE), DIVERGING)
        bar = part.colorbar(
            scale,
            ax=axes[1],
            fraction=0.025,
            panchor=False,
            ticks=[-LARGEST_CHANGE, 0, LARGEST_CHANGE],
        )
        bar.ax.set_yticklabels([f"\u2212{points}", "0", f"+{points}"])
        bar.set_label(f"change of {tissue}\n(percentage points)", fontsize=8)
    brains.tissue_legend(part)


def _draw_change(
    ax: Axes, before: SyntheticMaps, now: SyntheticMaps, view: str, tissue: str
) -> None:
    index = brains.usual_slice(now.grid, view)
    axis, _ = brains.VIEWS[view]
    width, height = (s for i, s in enumerate(now.grid.spacing_mm) if i != axis)
    maps = before.probabilities[0], now.probabilities[0]
    colors = change_slice(*maps, view, index, tissue=tissue)
    ax.imshow(colors, origin="lower", aspect=height / width, interpolation="bilinear")
    ax.set_axis_off()
    ax.set_anchor("N")


def _marks(interval: pd.DataFrame, name: str, people: Reference | None, since: str) -> str:
    level = 100 * interval["level"].iloc[0]
    parts = [f"Bars: this person. Lines with ends: {level:g} % range of {name}."]
    parts += [f"Triangles: before the change from {since}."] if since else []
    parts += [caution] if (caution := caution_about(interval)) else []
    if people is not None:
        shown = "5 to 95 %, quartiles and median" if len(people.quantiles) else "too few to show:"
        parts.append(f"Gray: {shown} of {people.n} {people.who}.")
    return " ".join(parts)
