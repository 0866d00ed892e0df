"""What the six notebooks share: where things are, and how to reach them.

State passes through files: every notebook opens the same study and finds what the ones before
it have written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from csegsynth_kit.analysis.truth import Truth, known_truth
from csegsynth_kit.data.cohort import Cohort, load_cohort, require_disjoint
from csegsynth_kit.data.features import Features
from csegsynth_kit.data.files import write_text, write_tsv
from csegsynth_kit.errors import CohortError, ConfigError, RunError
from csegsynth_kit.models import Family, build
from csegsynth_kit.models.presets import Preset, preset
from csegsynth_kit.show import plots
from csegsynth_kit.simulate.cohort import simulate_cohort
from csegsynth_kit.training.pretrained import (
    adopt,
    adopted,
    how_trained,
    pretrained_card,
    pretrained_names,
    seen_by,
    trained_on,
)
from csegsynth_kit.training.runs import Run, Stage, warm_start
from csegsynth_kit.training.trainer import Trainer

#: The embedded cohorts: stage to age range, participants and seed.
EMBEDDED = {"pretrain": ("young", 300, 1), "finetune": ("lifespan", 500, 0)}
#: Those at 4 mm, on which the weights of the package were trained.
_EMBEDDED_SMALL = {"pretrain": ("young", 1000, 12), "finetune": ("lifespan", 2000, 11)}
#: Training, validation and test shares of each stage.
_FRACTIONS = {"pretrain": (0.9, 0.1, 0.0), "finetune": (0.8, 0.1, 0.1)}
#: Family to the names of the unconditional and of the conditional model, in the paper's order.
FAMILY_NAMES = {
    "cvae": ("VAE", "C-VAE"),
    "cgan": ("GAN", "C-GAN"),
    "cldm": ("LDM", "C-LDM"),
    "csegsynth": ("alpha-GAN", "CSegSynth"),
}
#: Whose figures and tables have no suffix.
_MAIN = "csegsynth"


@dataclass(frozen=True)
class Study:
    """One run of the series: two cohorts, one family, one preset, one folder of results.

    Args:
        out: Folder of models, figures and tables.
        preset: Model and training configuration.
        family: Model family.
        seed: Of splits, weights and noise.
        cohorts: Stage to the folder of its prepared cohort.
    """

    out: Path
    preset: Preset
    family: str
    seed: int
    cohorts: dict[str, Path]

    @classmethod
    def open(
        cls,
        *,
        out: str,
        preset_name: str,
        family: str = "csegsynth",
        seed: int = 0,
        pretrain_cohort: str = "",
        finetune_cohort: str = "",
        prepared: str = "../data/prepared",
    ) -> "Study":
        """Open a study from the scalar parameters of a notebook.

        Args:
            out: Folder of results.
            preset_name: Name of the preset.
            family: Model family.
            seed: Of splits, weights and noise.
            pretrain_cohort: Folder of a prepared cohort; empty for the embedded one.
            finetune_cohort: Likewise.
            prepared: Where embedded cohorts are kept.
        """
        plots.style()
        chosen = preset(family, preset_name)
        given = {"pretrain": pretrain_cohort, "finetune": finetune_cohort}
        cohorts = {
            stage: Path(path)
            if path
            else Path(prepared)
            / f"{embedded(chosen.model.grid.name)[stage][0]}-{chosen.model.grid.name}"
            for stage, path in given.items()
        }
        return cls(Path(out), chosen, family, seed, cohorts)

    @property
    def name(self) -> str:
        """Name of the conditional model."""
        return FAMILY_NAMES[self.family][1]

    @property
    def ancestor(self) -> str:
        """Name of the unconditional model it starts from."""
        return FAMILY_NAMES[self.family][0]

    def of(self, family: str) -> "Study":
        """Return the study of another family, with the same cohorts, preset, seed and folder."""
        return replace(self, family=family, preset=preset(family, self.preset.name))

    def families(self, named: str) -> list["Study"]:
        """Return the studies of several families.

        Args:
            named: Families separated by commas, or ``all``.
        """
        return [self.of(family) for family in families_of(named)]

    def cohort(self, stage: Stage) -> Cohort:
        """Open a stage's cohort; simulate it first if it is an embedded one not made yet."""
        path = self.cohorts[stage]
        grid = self.preset.model.grid.name
        age, n, seed = embedded(grid)[stage]
        if path.name == f"{age}-{grid}" and not path.exists():
            simulate_cohort(path, n=n, age=age, grid=grid, seed=seed)
        cohort = load_cohort(path)
        if not cohort.grid.same_box(self.preset.model.grid):
            raise CohortError(
                f"has maps of shape {cohort.grid.shape} at {cohort.grid.spacing_mm} mm, but preset "
                f"'{self.preset.name}' needs {self.preset.model.grid.shape} at "
                f"{self.preset.model.grid.spacing_mm} mm",
                f"Prepare it with --grid {self.preset.model.grid.name}.",
                path,
            )
        return cohort

    def split(self, stage: Stage) -> tuple[Cohort, Cohort, Cohort]:
        """Split a stage's cohort: 90/10/0 for pre-training, 80/10/10 for fine-tuning.

        If both stages have the same cohort, both have the same split, and pre-training leaves
        the test participants alone as well.
        """
        if stage == "pretrain" and len({p.resolve() for p in self.cohorts.values()}) == 1:
            train, valid, test = self.split("finetune")
            return train, valid, test.subset([])
        return self.cohort(stage).split(_FRACTIONS[stage], seed=self.seed)

    def run(self, stage: Stage) -> Run:
        """Open a stage's run folder."""
        parent = self.run("pretrain") if stage == "finetune" else None
        return Run.open(
            self.out / "models",
            family=self.family,
            stage=stage,
            preset=self.preset,
            seed=self.seed,
            parent=parent,
        )

    def train(self, stage: Stage, *, progress: bool = True) -> Run:
        """Train a stage to its end, from where it was left; fine-tuning starts pre-trained."""
        train, valid, test = self.split(stage)
        features = None
        if stage == "pretrain":
            _, *held_out = self.split("finetune")
            for part in held_out:  # Refused now rather than after hours of pre-training.
                require_disjoint(train, part)
        if stage == "finetune":
            self._finished("pretrain").require_unseen(test)
            features = Features.fit(train.table, train.feature_columns)
        run = self.run(stage)
        model = build(self.preset.model, features, seed=self.seed)
        if run.parent:
            warm_start(model, run.parent.best())
        config = getattr(self.preset, stage)
        Trainer(model, config, run, progress=progress).fit(train, valid)
        return run

    def model(self, stage: Stage = "finetune") -> Family:
        """Load a stage's trained model, or the packaged one that was trained just so."""
        return self._finished(stage).load_model()

    def origin(self, stage: Stage = "finetune") -> str:
        """Say in a sentence where :meth:`model` comes from."""
        packaged = adopted(self._finished(stage))
        name = self.name if stage == "finetune" else self.ancestor
        if packaged is None:
            return f"{name} was trained in this series."
        return f"{name} was not trained here: it is '{packaged}', which comes with the package."

    def truth(self) -> Truth | None:
        """Return the truth behind the fine-tuning cohort, if it is simulated and so known."""
        return known_truth(self.cohort("finetune"))

    def save(self, figure: Figure, name: str) -> Path:
        """Write a figure under ``figures``, as PNG and SVG."""
        return plots.save(figure, self.out / "figures" / f"{name}{suffix(self.family)}")

    def write(self, table: pd.DataFrame, name: str) -> Path:
        """Write a table under ``tables``, as TSV, and return its path."""
        path = self.out / "tables" / f"{name}{suffix(self.family)}.tsv"
        write_tsv(path, table.set_index(table.columns[0]))
        return path

    def write_report(self, text: str, name: str) -> str:
        """Write a page under ``reports``, in Markdown, and return it."""
        path = self.out / "reports" / f"{name}{suffix(self.family)}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        return text

    def _finished(self, stage: Stage) -> Run:
        if stage == "finetune" and not self.run("pretrain").finished:
            self._adopt("pretrain")
        run = self.run(stage)
        if not run.finished and not self._adopt(stage):
            number = {"pretrain": "02_pretraining", "finetune": "03_fine_tuning"}[stage]
            raise RunError(
                "is not trained yet",
                f"Run notebook {number} with family '{self.family}' first, or take preset 'small' "
                "with the embedded cohorts and seed 0, whose weights come with the package.",
                run.path,
            )
        return run

    def _adopt(self, stage: Stage) -> bool:
        """Take packaged weights that were trained just so on this cohort, if there are any."""
        name = f"{FAMILY_NAMES[self.family][stage == 'finetune'].lower()}-{self.preset.name}"
        if name not in pretrained_names():
            return False
        card, run = pretrained_card(name), self.run(stage)
        own = how_trained(self.preset, self.family, stage, seed=self.seed)
        if own != {key: card["training"].get(key) for key in own}:
            return False
        # A training that was begun goes before.
        if run.last().exists() or not trained_on(card, self.cohort(stage)):
            return False
        if stage == "finetune" and not self._began_like(card):
            return False
        adopt(run, name, *self.split(stage)[:2])
        return True

    def _began_like(self, card: Mapping) -> bool:
        """Tell whether the pre-training here has seen whom that of packaged weights had."""
        train, valid, _ = self.split("pretrain")
        trained = self.run("pretrain").provenance()
        here = not trained or trained["data"]["train"] == train.fingerprint
        return here and card["training"].get("pretraining") == seen_by(train, valid)


def embedded(grid: str) -> dict[str, tuple[str, int, int]]:
    """Return age range, participants and seed of the embedded cohorts of a grid."""
    return _EMBEDDED_SMALL if grid == "small" else EMBEDDED


def suffix(family: str) -> str:
    """Return what the names of a family's figures, tables and notebooks end with."""
    return "" if family == _MAIN else f"-{family}"


def families_of(named: str) -> list[str]:
    """Split names of families, or raise ConfigError for an unknown one; ``all`` is all of them."""
    chosen = [name.strip() for name in named.split(",") if name.strip()]
    if "all" in chosen:
        return list(FAMILY_NAMES)
    unknown = [name for name in chosen if name not in FAMILY_NAMES]
    if unknown or not chosen:
        raise ConfigError(
            f"there is no model family {(unknown or [named])[0]!r}",
            f"Choose from {', '.join(FAMILY_NAMES)}, or all.",
        )
    return list(dict.fromkeys(chosen))
