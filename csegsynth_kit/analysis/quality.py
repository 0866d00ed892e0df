"""Are generated maps like real ones? The paper's distribution metrics, for several models."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import SegmentationMaps
from csegsynth_kit.metrics.board import ALARM, CENTRAL, FEWEST, metric_board, set_size
from csegsynth_kit.metrics.extractors import Extractor
from csegsynth_kit.metrics.morphometry import Morphometry
from csegsynth_kit.metrics.random_conv import RandomConv3d
from csegsynth_kit.metrics.trained import inception2d, medicalnet, radimagenet2d

#: Published extractors, by how the name of their file of weights begins.
_PUBLISHED: dict[str, Callable[..., Extractor]] = {
    "inception2d": inception2d,
    "radimagenet2d": radimagenet2d,
    "medicalnet": medicalnet,
}
#: What the paper reports, as far as it does not depend on the extractor.
_PAPER_METRICS = {"mmd_linear": "MMD, linear", "mmd_rbf": "MMD, RBF", "delta_ms_ssim": "|ΔMS-SSIM|"}
_REAL = "participants"
#: After values that real sets of this size exceed less than once in twenty.
WORSE = " *"


def extractors_from(weights: Path | str = "") -> list[Extractor]:
    """Return the extractors that need no download, and published ones whose weights are given.

    Args:
        weights: Folder of files whose names begin with ``inception2d``, ``radimagenet2d`` or
            ``medicalnet``; empty for none.

    Raises:
        ConfigError: if the folder holds none of them.
    """
    found: list[Extractor] = [Morphometry(), RandomConv3d()]
    if not weights:
        return found
    for name, build in _PUBLISHED.items():
        for path in sorted(Path(weights).glob(f"{name}*"))[:1]:
            found.append(build(path=path))
    if len(found) == 2:
        raise ConfigError(
            f"there are no weights in {weights}",
            f"Name the files {', '.join(f'{name}.pth' for name in _PUBLISHED)}, or leave it empty.",
        )
    return found


def judge_maps(
    synthetic: Mapping[str, SegmentationMaps],
    train: SegmentationMaps,
    test: SegmentationMaps,
    *,
    extractors: Sequence[Extractor],
    splits: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Judge the maps of several models; see ``metrics.board.metric_board``.

    Args:
        synthetic: Name of a model to its maps, generated for the answers of other people than
            ``test`` has: sets of participants, which are the floor, are of other people, too.
        train: Real maps that all of them were trained on, one per person.
        test: Real maps that none was trained on, one per person.
        extractors: What features are compared.
        splits: Pairs of sets in the floor, and half-samples in the interval.
        seed: Of all draws.

    Returns:
        The boards of all extractors; metrics of the voxels themselves, which need none, once.
        Empty if there are too few people for any of it.
    """
    if set_size(len(train), len(test), *map(len, synthetic.values())) < FEWEST:
        return pd.DataFrame(columns=["model", "metric", "extractor", "reference", "n", "verdict"])
    options = {"splits": splits, "seed": seed}
    boards = [
        metric_board(train, test, synthetic, extractor=extractor, voxels=not i, **options)
        for i, extractor in enumerate(extractors)
    ]
    whole = pd.concat(boards, ignore_index=True)
    order = list(synthetic)
    return whole.sort_values("model", key=lambda m: m.map(order.index), kind="stable")


def paper_table(board: pd.DataFrame) -> pd.DataFrame:
    """Lay the paper's metrics against test maps out for reading: a row per model.

    A cell holds the value, its 95 % interval, and a star if real sets of this size are hardly
    ever that far apart. The last row holds the medians of these real sets.
    """
    if board.empty:
        return pd.DataFrame({"distances": [f"not measured: fewer than {FEWEST} people"]})
    rows = board[board["reference"] == "test"]
    rows = rows.assign(title=[_title(row) for row in rows.itertuples()]).dropna(subset="title")
    columns = list(dict.fromkeys(rows["title"]))
    cells = rows.assign(cell=[_cell(row) for row in rows.itertuples()])
    wide = cells.pivot(index="model", columns="title", values="cell")
    wide = wide.loc[list(dict.fromkeys(rows["model"])), columns]
    first = rows[rows["model"] == rows["model"].iloc[0]].set_index("title")
    wide.loc[_REAL] = [f"{first.loc[column, 'floor']:.3g}" for column in columns]
    return wide.rename_axis("model").rename_axis(None, axis=1)


def count_worse(board: pd.DataFrame) -> pd.DataFrame:
    """Count, per model and reference, the numbers that are worse than 95 % of real sets.

    One in twenty is worse by chance, but numbers of one model go together.
    """
    rows = board.assign(worse=board["verdict"] == "worse than real")
    groups = rows.groupby(["model", "reference", "extractor"], sort=False)["worse"]
    counts = groups.sum().astype(str) + " of " + groups.size().astype(str)
    return counts.unstack(["reference", "extractor"])


def too_close(board: pd.DataFrame) -> list[str]:
    """Return a sentence for each model whose maps are suspiciously close to training maps."""
    central = (board["verdict"] == CENTRAL) & (board["metric"] == "authenticity")
    rows = board[(board["verdict"] == ALARM) | central]
    sentences = []
    for model, own in rows.groupby("model", sort=False):
        said = ALARM if (own["verdict"] == ALARM).any() else CENTRAL
        by = ", ".join(own["metric"] + " of " + own["extractor"])
        said = said.removeprefix("ALARM: ")
        sentences.append(f"{model}: {said}, by {by} (n = {own['n'].iloc[0]}).")
    return sentences


def _title(row) -> str | None:
    if row.metric in _PAPER_METRICS:
        name = _PAPER_METRICS[row.metric]
        return name if row.extractor == "voxels" else f"{name} ({row.extractor})"
    return row.metric if "(" in row.metric else None  # Frechet distances name their extractor


def _cell(row) -> str:
    star = WORSE if row.verdict == "worse than real" else ""
    return f"{row.value:.3g} [{row.low:.3g}, {row.high:.3g}]{star}"
