"""Train, measure and pack the weights that come with the package.

    python benchmarks/packaged_weights.py --families csegsynth

The study is that of ``csegsynth run --preset small`` with the embedded cohorts at 4 mm; what is
there already is not trained again. Volumes are scored on fresh people, maps on the test
participants, and slopes of the default family on fresh people, all with the packed weights.
Writes weights and cards to ``csegsynth_kit/weights``, and two pictures to the folder of the
study.
"""

import argparse
import logging
import time
from pathlib import Path

import pandas as pd
import torch
from studies import markdown
from trajectory_truth import slope_table

from csegsynth_kit.analysis import quality
from csegsynth_kit.analysis.evaluate import (
    BEST_POSSIBLE,
    VolumeEvaluation,
    evaluate_people,
)
from csegsynth_kit.analysis.generate import generate
from csegsynth_kit.analysis.regression import RIDGE
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.models import Family
from csegsynth_kit.show import brains, tables
from csegsynth_kit.show.study import FAMILY_NAMES, Study
from csegsynth_kit.training import checkpoint
from csegsynth_kit.training.pretrained import (
    COHORT_CARD,
    FOLDER,
    how_trained,
    load_pretrained,
    save_pretrained,
    seen_by,
    split_digest,
)

log = logging.getLogger("packaged")

_NOT_FOR = (
    "Trained on simulated people only: not for diagnosis, not for statements about real brains "
    "or about any particular person, not for causes, not for change within a person, and not for "
    "folds, thickness or texture: "
)
_RANDOM = "the fine detail of the maps is random."
_BLURRED = "the maps have no fine detail, they are blurred."
_START = (
    "No epoch of fine-tuning scored better on validation people than the start, a regression of "
    "codes and volumes on the answers: the start was kept."
)
_FRESH_SEED = 12345
#: The default family, of which more comes with the package.
_MAIN = "csegsynth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/small")
    parser.add_argument("--prepared", default="data/prepared")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--families", nargs="+", default=["csegsynth"], choices=list(FAMILY_NAMES))
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--weights", type=Path, default=FOLDER)
    options = parser.parse_args()
    for family in options.families:
        study = Study.open(
            out=options.out,
            preset_name=options.preset,
            family=family,
            prepared=options.prepared,
        )
        for stage in ("pretrain", "finetune"):
            began = time.perf_counter()
            study.train(stage)
            log.info("%s, %s: %.0f s", family, stage, time.perf_counter() - began)
        pack(study, options)


def pack(study: Study, options: argparse.Namespace) -> None:
    """Write the weights with their cards; ancestors only of the default family."""
    if study.family == _MAIN:
        write(study, "pretrain", study.ancestor, options.weights, {})
    write(study, "finetune", study.name, options.weights, {})  # scores are those of the packed
    write(study, "finetune", study.name, options.weights, measured(study, options))


def write(study: Study, stage: str, name: str, folder: Path, scores: dict) -> None:
    """Pack the weights of a stage, with their card."""
    train, valid, _ = study.split(stage)
    name = f"{name.lower()}-{study.preset.name}"
    _, meta = checkpoint.read(study.run(stage).best())
    epochs, batch = meta["epoch"] + 1, getattr(study.preset, stage).batch_size
    asked, before = (), {}
    if stage == "finetune":
        asked = train.feature_columns
        before = {"pretraining": seen_by(*study.split("pretrain")[:2])}
    card = {
        "name": name,
        "statement": f"The weights '{name}' of the package have seen simulated people only.",
        "family": study.family,
        "stage": stage,
        "preset": study.preset.name,
        "voxels_mm": list(study.preset.model.grid.spacing_mm),
        "training": {
            "cohort": {key: train.provenance[key] for key in COHORT_CARD},
            "participants": len(train),
            "validation_participants": len(valid),
            "ages_years": [round(float(q), 1) for q in train.table["age"].quantile([0, 0.5, 1])],
            "epochs": epochs,
            "steps": epochs * (len(train) // min(batch, len(train))),
            **how_trained(study.preset, study.family, stage, seed=study.seed),
            "split": split_digest(train, valid),
            **before,
            "torch": torch.__version__,
        },
        "questions": [column.name for column in asked],
        "scores": scores,
        "not_for": _NOT_FOR + (_RANDOM if has_texture(study.model(stage)) else _BLURRED),
    }
    if stage == "finetune" and epochs == 0:
        card["training"]["note"] = _START
    path = save_pretrained(study.run(stage), name, card, folder=folder)
    card["largest_change_ml"] = largest_change(study, stage, name, folder)
    save_pretrained(study.run(stage), name, card, folder=folder)
    log.info("%s: %.1f MB", path, path.stat().st_size / 1e6)


def has_texture(model: Family) -> bool:
    """Whether maps get detail that no code describes; of some families they never do."""
    return getattr(model, "texture", None) is not None


def largest_change(study: Study, stage: str, name: str, folder: Path) -> float:
    """Largest difference that packing makes to a volume of 50 maps (mL)."""
    valid = study.split(stage)[1]
    volumes = []
    for model in (load_pretrained(name, folder=folder), study.model(stage)):
        people = valid.table[list(model.features.questions)][:50] if model.conditional else None
        maps = generate(model, people, n=1 if model.conditional else 50)
        volumes.append(maps.volumes_ml()["volume_ml"].to_numpy())
    return round(float(abs(volumes[0] - volumes[1]).max()), 2)


def measured(study: Study, options: argparse.Namespace) -> dict:
    """Score the packed weights."""
    name = f"{study.name.lower()}-{study.preset.name}"
    models = {name: load_pretrained(name, folder=options.weights)}
    train, valid, test = study.split("finetune")
    truth = study.truth()
    people, volumes = truth.fresh_people(options.people, seed=_FRESH_SEED)
    result = evaluate_people(models, train, people, volumes)
    log.info("%s", markdown(volume_table(result, name)))
    questions = list(models[name].features.questions)
    made = {name: generate(models[name], valid.table[questions])}
    extractors = quality.extractors_from("")
    known = train.maps(train.ids[: 2 * len(test)])  # as many as a comparison can use
    board = quality.judge_maps(made, known, test.maps(), extractors=extractors, splits=100)
    log.info("%s\n%s", quality.paper_table(board).T.to_string(), quality.count_worse(board))
    trajectories = {}
    if study.family == _MAIN:
        slopes, peaks = slope_table(models[name], train, truth)
        log.info("%s\n%s", markdown(slopes.reset_index()), peaks)
        slopes = slopes.reset_index().to_dict("records")
        trajectories = {"slopes": slopes, "white_matter_peak": peaks}
    ids = tables.spread_over_age(test, 8).index
    answers = test.table.loc[ids, questions]
    shown = {"simulated": test.maps(ids), "generated": generate(models[name], answers)}
    ages = [f"{age:.0f} y" for age in test.table.loc[ids, "age"]]
    study.save(brains.rows_of_brains(shown, titles=ages), f"montage-{name}")
    two = {
        "simulated": test.maps(ids[[2, 5]]),
        "generated": generate(models[name], answers.iloc[[2, 5]]),
    }
    study.save(brains.comparison(two), f"views-{name}")
    return {
        "fresh_people": len(people),
        "volumes": volume_table(result, name).to_dict("records"),
        "maps": map_table(board, name).to_dict("records"),
        **trajectories,
    }


def volume_table(result: VolumeEvaluation, model: str) -> pd.DataFrame:
    """Mean absolute error (mL) of the mean of draws, beside ridge and what is possible."""
    scores = result.scores.set_index(["predictor", "tissue"])
    ratios = result.ratios.set_index(["model", "reference", "tissue"])
    spread = result.spread.set_index(["model", "tissue"])
    draws = result.draws[model].shape[1]
    rows = []
    for tissue in MEASURED:
        row = {"tissue": tissue}
        for what, predictor in {
            "mae_ml": f"{model}, mean of {draws} draws",
            "one_draw_ml": f"{model}, one draw",
            "ridge_ml": RIDGE,
            "best_possible_ml": BEST_POSSIBLE,
        }.items():
            row[what] = _with_interval(scores.loc[(predictor, tissue)], "mae_ml", 1)
        ratio = ratios.loc[(model, RIDGE, tissue)]
        row |= {"ratio_to_ridge": _with_interval(ratio, "ratio", 3), "verdict": ratio["verdict"]}
        own = spread.loc[(model, tissue)]
        row |= {
            "sd_ratio": round(float(own["sd_ratio"]), 2),
            "r": _with_interval(scores.loc[(f"{model}, mean of {draws} draws", tissue)], "r", 2),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def map_table(board: pd.DataFrame, model: str) -> pd.DataFrame:
    """Distances to the test participants' maps, beside those of pairs of real sets."""
    rows = board[(board["model"] == model) & (board["reference"] == "test")]
    numbers = ["value", "low", "high", "floor", "floor_detect"]
    rows = rows.assign(**{name: rows[name].astype(float).map("{:.4g}".format) for name in numbers})
    return rows[["metric", "extractor", *numbers, "n", "verdict"]].astype(str)


def _with_interval(row: pd.Series, name: str, digits: int) -> str:
    low, value, high = (f"{row[n]:.{digits}f}" for n in (f"{name}_low", name, f"{name}_high"))
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
