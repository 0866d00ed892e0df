"""What the studio says: standing sentences, warnings, legends, and its looks."""

from collections.abc import Sequence
from html import escape

import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex

from csegsynth_kit.constants import COLORS, DIVERGING, MEASURED
from csegsynth_kit.show.studio_pictures import LARGEST_CHANGE

#: What must be said wherever a person of the studio is shown.
STANDING = (
    "A synthetic person, not a prediction of an individual brain. Cross-sectional: the model "
    "compares people of different ages; nobody was followed over time."
)
SIMULATED = "The model was trained on simulated participants, who do not exist."
UNKNOWN = "It is not recorded whether the model was trained on simulated participants."

STYLE = """<style>
.csegsynth-studio { background: #fff; color: #222; padding: 18px 22px; max-width: 1370px;
  font-family: system-ui, sans-serif; }
.csegsynth-studio h1 { font-size: 21px; font-weight: 600; margin: 0 0 8px; line-height: 1.3; }
.csegsynth-studio h2 { font-size: 14px; font-weight: 600; margin: 6px 0 4px; line-height: 1.4; }
.csegsynth-studio h2 small { font-weight: 400; color: #666; float: right; margin-right: 4px; }
.csegsynth-studio .studio-note { line-height: 1.45; font-size: 13px; }
.csegsynth-studio .studio-standing { border-left: 4px solid #7A7A7A; padding: 4px 10px;
  background: #F4F4F4; font-size: 13px; line-height: 1.45; }
.csegsynth-studio .studio-warning { border-left: 4px solid #B25C00; padding: 4px 10px;
  background: #FFF3E0; font-size: 13px; line-height: 1.45; }
.csegsynth-studio .studio-view { font-size: 13px; color: #666; line-height: 1.4; }
.csegsynth-studio .studio-legend { font-size: 13px; color: #444; line-height: 1.8; }
.csegsynth-studio .studio-chip { display: inline-block; width: 12px; height: 12px;
  margin: 0 5px 0 0; vertical-align: -1px; border: 1px solid #0002; }
.csegsynth-studio .studio-caption { font-size: 12px; color: #666; line-height: 1.45; }
.csegsynth-studio .studio-outside .widget-label { color: #B25C00; font-weight: 600; }
.csegsynth-studio .fa { font-family: system-ui, sans-serif; font-style: normal; }
.csegsynth-studio .fa-play::before { content: "\\25B6"; }
.csegsynth-studio .fa-pause::before { content: "\\275A\\275A"; }
.csegsynth-studio .fa-stop::before { content: "\\25A0"; }
.csegsynth-studio .fa-repeat::before { content: "\\21BB"; }
.csegsynth-studio .widget-label { font-size: 13px; }
.csegsynth-studio :focus-visible { outline: 2px solid #1A5FB4; outline-offset: 1px; }
</style>"""


def heading() -> str:
    """Title of the page."""
    return "<h1>Studio: who could have given these answers?</h1>"


def standing_words(simulated: bool | None) -> str:
    """What must be said, of a model trained on simulated people or not (None: unknown)."""
    return STANDING + {True: f" {SIMULATED}", False: "", None: f" {UNKNOWN}"}[simulated]


def standing(simulated: bool | None) -> str:
    """The same as a part of the page."""
    return f'<div class="studio-standing">{escape(standing_words(simulated))}</div>'


def note(text: str) -> str:
    """A line of plain text."""
    return f'<div class="studio-note">{escape(text)}</div>'


def titled(text: str, more: str = "") -> widgets.HTML:
    """Title of a part of the page, with a remark at its right."""
    aside = f"<small>{escape(more)}</small>"
    return widgets.HTML(f"<h2>{escape(text)}{aside}</h2>")


def warnings_box(warnings: Sequence[str]) -> str:
    """Say what lies outside what training participants answered; empty if nothing does."""
    if not warnings:
        return ""
    lines = "<br>".join(escape(warning) for warning in warnings)
    return f'<div class="studio-warning" role="status">{lines}</div>'


def tissue_legend() -> str:
    """Say which color is which tissue."""
    chips = "".join(
        f'<span class="studio-chip" style="background:{COLORS[tissue]}"></span>{tissue}&emsp;'
        for tissue in MEASURED
    )
    return f'<div class="studio-legend">{chips}</div>'


def change_legend(tissue: str) -> str:
    """Say what the colors of a tissue's change mean, in percentage points of a voxel."""
    table = mpl.colormaps[DIVERGING](np.linspace(0, 1, 11))
    colors = ", ".join(to_hex(color) for color in table)
    points = f"{100 * LARGEST_CHANGE:.0f}"
    return (
        f'<div class="studio-legend">\u2212{points} <span class="studio-chip" style="width:150px;'
        f'margin:0 5px;background:linear-gradient(to right, {colors})"></span> +{points} '
        f"percentage points of the voxel that are {tissue}: now, minus pinned</div>"
    )
