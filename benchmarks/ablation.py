"""What each choice in CSegSynth's training is worth, on the simulated lifespan cohort.

Trains every variant of the ``tiny`` preset on the same 400 participants and prints a Markdown
table: accuracy on 1,000 fresh people relative to ridge regression, the spread of a person's
draws against the known one, and how alike generated maps are.

    python benchmarks/ablation.py --out runs/ablation
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from studies import markdown

from csegsynth_kit.analysis.evaluate import evaluate_people
from csegsynth_kit.analysis.generate import generate
from csegsynth_kit.analysis.regression import RIDGE
from csegsynth_kit.constants import MEASURED
from csegsynth_kit.data.features import Features
from csegsynth_kit.metrics.distances import diversity
from csegsynth_kit.models import build
from csegsynth_kit.models.presets import Preset, preset
from csegsynth_kit.show.study import Study
from csegsynth_kit.training.runs import Run, warm_start
from csegsynth_kit.training.trainer import Trainer

log = logging.getLogger("ablation")

_PAPER_WEIGHTS = {"volume_loss": "absolute", "volume_unit": "sd"}


def variants() -> dict[str, Preset]:
    """Name to preset: the default, and one choice changed at a time."""
    default = preset("csegsynth", "tiny")
    goal = default.model.conditional

    def model(**changes) -> Preset:
        return replace(default, model=replace(default.model, **changes))

    def objective(**changes) -> Preset:
        return model(conditional=replace(goal, **changes))

    def both(**changes) -> Preset:
        return model(
            conditional=replace(goal, **changes),
            unconditional=replace(default.model.unconditional, **changes),
        )

    return {
        "default": default,
        "volume loss: absolute error of one draw (published)": model(**_PAPER_WEIGHTS),
        "volume loss: none": objective(volume=0.0),
        "code term: critic towards N(0, I) (published)": model(code_term="gaussian"),
        "code term: none": model(code_term="off"),
        "triplet: another participant": objective(triplet=1.0),
        "triplet: noisy features, margin 0 (published)": model(
            triplet_negative="reference", conditional=replace(goal, triplet=1.0)
        ),
        "image critic: none": both(adversarial=0.0),
        "volumes of reconstructions as well (published)": objective(reconstructed_volume=1.0),
        "no start from components nor regression": model(
            component_start=False, regression_start=False
        ),
        "no start from regression": model(regression_start=False),
        "answers never hidden": replace(
            default, finetune=replace(default.finetune, hide_answers=0.0)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--only", nargs="+", help="words that the names of variants contain")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    study = Study.open(
        out=str(options.out), preset_name="tiny", prepared="data/prepared", seed=options.seed
    )
    rows = []
    for name, chosen in variants().items():
        if options.only and not any(word in name for word in options.only):
            continue
        rows.append({"variant": name, **measured(study, chosen)})
        log.info("%s: %s", name, rows[-1])
    log.info("\n%s", markdown(pd.DataFrame(rows)))


def measured(study: Study, chosen: Preset) -> dict[str, float | str]:
    """Train with one preset and score the result."""
    train, valid, _ = study.split("finetune")
    start = study.preset
    if chosen.model.unconditional != start.model.unconditional or not chosen.model.component_start:
        start = chosen
    base = replace(study, preset=start).train("pretrain")
    run = Run.open(
        study.out / "models",
        family=study.family,
        stage="finetune",
        preset=chosen,
        seed=study.seed,
        parent=base,
    )
    model = build(chosen.model, Features.fit(train.table, train.feature_columns), seed=study.seed)
    warm_start(model, base.best())
    history = Trainer(model, chosen.finetune, run).fit(train, valid)
    model, seed = run.load_model(), study.seed
    people, volumes = study.truth().fresh_people(1000, seed=seed + 54321)
    result = evaluate_people({"model": model}, train, people, volumes, n=16, seed=seed)
    ratios = result.ratios[result.ratios["reference"] == RIDGE].set_index("tissue")["ratio"]
    generated = generate(model, valid.table[list(model.features.questions)], seed=seed)
    alike = diversity(
        {"real": valid.maps().probabilities, "model": generated.probabilities}, seed=seed
    ).set_index("set")["ssim"]
    spread = result.spread
    return {
        "MAE / ridge": _triple(ratios[list(MEASURED)], 3),
        "SD of draws / true": _triple(spread["within_sd_ml"] / spread["true_within_sd_ml"], 2),
        "SD of cohort / real": _triple(spread["sd_ratio"], 2),
        "SSIM - real": f"{alike['model'] - alike['real']:+.3f}",
        "seconds": f"{history['seconds'].sum():.0f}",
    }


def _triple(values: pd.Series, digits: int) -> str:
    return " / ".join(f"{value:.{digits}f}" for value in np.asarray(values))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
