"""Trainings that tests start in processes of their own."""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from csegsynth_kit.data.cohort import load_cohort
from csegsynth_kit.data.features import Features
from csegsynth_kit.models import FAMILIES, build, family_class
from csegsynth_kit.models.ldm_config import LDMObjective
from csegsynth_kit.models.presets import Preset, preset
from csegsynth_kit.training.feed import Feed
from csegsynth_kit.training.runs import Run
from csegsynth_kit.training.stepper import Stepper
from csegsynth_kit.training.trainer import Trainer
from tests.toy import TOY_GRID

_SMALLER_CODE = {
    "hidden": 16,
    "latent": 12,
    "spare": 4,
    "doublings": 1,
    "width": 4,
    "waves": 3,
    "reader_widths": (8,),
}
#: What makes each family's tiny model smaller still.
SMALLER = {
    "cvae": _SMALLER_CODE,
    "cgan": _SMALLER_CODE,
    "csegsynth": _SMALLER_CODE,
    "cldm": {
        "hidden": 16,
        "patch": 4,
        "channels": (8,),
        "latent_channels": 3,
        "spare": 1,
        "places": 2,
        "norm_groups": 2,
        "denoiser_channels": (4, 8),
        "denoiser_attention": (False, True),
        "denoiser_norm_groups": 2,
        "head_channels": 4,
        "token": 6,
        "sampling_steps": 4,
        "unconditional": LDMObjective(autoencoder_steps=5, reconstruction=300.0),
        "conditional": LDMObjective(autoencoder_steps=2, reconstruction=300.0),
    },
}


def toy_preset(family: str = "csegsynth", **training) -> Preset:
    tiny = preset(family, "tiny")
    short = {"steps": 0, "epochs": 4, "batch_size": 6, "validate_every": 1, **training}
    return replace(
        tiny,
        name="toy",
        model=replace(tiny.model, grid=TOY_GRID, **SMALLER[family]),
        pretrain=replace(tiny.pretrain, **short),
        finetune=replace(tiny.finetune, **short),
    )


def restarting_preset(**training) -> Preset:
    """Its transform restarts at a regression after every epoch."""
    chosen = toy_preset(**training)
    return replace(chosen, model=replace(chosen.model, regression_restart=True))


def uneven_preset(family: str, accumulate: int) -> Preset:
    """Batches that neither two processes nor two or three parts divide evenly."""
    return toy_preset(family, batch_size=5, epochs=2, accumulate=accumulate)


#: What a toy leaves out of each family's loss: stage to changes of its objective.
EVERYTHING = {
    "cvae": {"conditional": {"reconstructed_volume": 1.0}},
    "cgan": {"conditional": {"triplet": 1.0}},
    "cldm": {"conditional": {"volume": 1.0}, "unconditional": {"autoencoder_steps": 0}},
    "csegsynth": {"conditional": {"triplet": 1.0}},
}


def whole_preset(family: str) -> Preset:
    """Every term on, and plain descent: what Adam and clipping would hide, shows."""
    chosen = toy_preset(family, clip="off", epochs=1)
    goals = {
        stage: replace(getattr(chosen.model, stage), **changes)
        for stage, changes in EVERYTHING[family].items()
    }
    return replace(chosen, model=replace(chosen.model, **goals))


def train(cohort_path: Path, runs: Path, chosen: Preset | None = None, stage="finetune") -> Run:
    chosen = chosen or toy_preset()
    cohort = load_cohort(cohort_path)
    training, valid, _ = cohort.split((0.5, 0.25, 0.25))
    features = None
    if stage == "finetune":
        features = Features.fit(training.table, cohort.feature_columns)
    run = Run.open(runs, family=chosen.model.family, stage=stage, preset=chosen)
    model = build(chosen.model, features)
    trainer = Trainer(model, getattr(chosen, stage), run, device="cpu", progress=False)
    trainer.fit(training, valid)
    return run


def kill_in_the_middle(epoch: int, step: int) -> None:
    """Make this process kill itself when it reaches a batch."""
    original = Feed.epoch

    def dying(self, current):
        for i, batch in enumerate(original(self, current)):
            if (current, i) == (epoch, step):
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    Feed.epoch = dying


def first_gradient_norms(cohort_path: Path, runs: Path) -> dict[str, float]:
    """Gradient norm of every family's groups in the first step, before any weight has moved."""
    norms: dict[str, float] = {}
    original = Stepper.step

    def recording(self, group):
        norm = original(self, group)
        norms.setdefault(f"{self.model.config.family} {group}", norm)
        return norm

    Stepper.step = recording
    try:
        for family in FAMILIES:
            train(cohort_path, runs, whole_preset(family))
    finally:
        Stepper.step = original
    return norms


def train_unlike_the_first(rank: int, cohort: Path, folder: Path) -> None:
    """Train where all but the first process fit otherwise, and each writes what it has."""

    def otherwise(original: Callable) -> Callable:
        def fitted(self, *args):
            found = original(self, *args)
            if found is not False:  # an epoch that begins with nothing new
                for tensor in [*self.parameters(), *self.buffers()]:
                    tensor.data.copy_(tensor * 1.01)
            return found

        return fitted

    Trainer._writes = True
    for chosen in (restarting_preset(epochs=2), toy_preset("cldm")):
        family = family_class(chosen.model.family)
        for name in ("fit_statistics", "settle", "begin_epoch") if rank else ():
            setattr(family, name, otherwise(getattr(family, name)))
        train(cohort, folder / str(rank), chosen)


def train_as_one_of_two(rank: int, cohort: Path, runs: Path, meeting: Path, norms: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    train(cohort, runs)
    for family in FAMILIES:
        train(cohort, norms / "uneven", uneven_preset(family, accumulate=2))
    found = first_gradient_norms(cohort, norms)
    if rank == 0:
        (norms / "norms.json").write_text(json.dumps(found))
    train_unlike_the_first(rank, cohort, norms / "unlike")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    cohort, runs, *how = sys.argv[1:]
    codes = {}
    for family in FAMILIES:
        child = os.fork()  # so that the library is loaded once for all families
        if child == 0:
            if how == ["die"]:
                kill_in_the_middle(epoch=2, step=1)
            train(Path(cohort), Path(runs), toy_preset(family))
            os._exit(0)
        codes[family] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.stdout.write(json.dumps(codes))
